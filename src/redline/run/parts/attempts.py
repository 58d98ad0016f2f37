"""Attempts at a part, each in a folder of its own.

The first attempt has the folder that the user names, such as `parts/3`; later ones have `parts/3.2`, `parts/3.3` and so
on. An attempt is continued only under the kernel that it was started under, where the lock on its folder is reliable.
On any other host, or after a reboot, a new attempt takes over: it copies what the last attempt had finished, and from
then on only the new attempt counts. So a host that was cut off from the others and its replacement never both count.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from redline._errors import EvidenceError, UsageError
from redline.plan import Plan, PlanRecord, completed
from redline.run.aborter import AlarmNote
from redline.run.folder import RunFolder, write_bytes, write_text
from redline.run.journal import append, entries
from redline.run.lock import FolderInUseError, exclusive_lock
from redline.run.parts.part import Part, PartRecord, own_boot_id, read_part_record
from redline.run.preflight import preflights_of
from redline.run.seals import note_seal, seals_of
from redline.run.stored_logs import check_log, log_names


def open_attempt(root: Path, plan: Plan, part: Part) -> tuple[RunFolder, PartRecord]:
    """Return the folder and the record of the attempt that this host works on: the last one, or a new one.

    Args:
        root: Folder of the part's first attempt.
        plan: The whole plan.
        part: The part.

    Raises:
        UsageError: The folder is of another plan or part, in use, or cannot be written.
        EvidenceError: The earlier attempt is altered.
    """
    RunFolder(root).refuse_file()
    sha256 = PlanRecord.of(completed(plan)).sha256
    known = list(attempts_at(root))
    if not known:
        return RunFolder(root), PartRecord.here(sha256, part)
    last, record = known[-1]
    if record.plan_sha256 != sha256:
        raise UsageError(f"{last} is a part of another plan: choose another --out, or use the original plan")
    if record.part != part:
        raise UsageError(f"{last} is part {record.part}, not part {part}: choose another --out")
    if record.boot_id == own_boot_id():
        return RunFolder(last), record
    return _take_over(root, RunFolder(last), record)


def attempts_at(root: Path) -> Iterator[tuple[Path, PartRecord]]:
    """Yield the folder and record of each attempt, the first one first; folders without a record do not count."""
    later = []
    for path in root.parent.glob(f"{_escaped(root.name)}.*") if root.parent.is_dir() else ():
        suffix = path.name.removeprefix(f"{root.name}.")
        if suffix.isascii() and suffix.isdigit() and (record := read_part_record(path)) is not None:
            later.append((path, record))
    if (first := read_part_record(root)) is not None:
        yield root, first
    yield from sorted(later, key=lambda one: one[1].attempt)


def first_attempt(path: Path, record: PartRecord) -> Path:
    """Return the folder of the first attempt at the part whose attempt is in this folder."""
    return path if record.attempt == 1 else path.with_name(path.name.removesuffix(f".{record.attempt}"))


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _take_over(root: Path, last: RunFolder, before: PartRecord) -> tuple[RunFolder, PartRecord]:
    """Create the next attempt with everything that the last one has finished; its record is written last."""
    with exclusive_lock(last.root, last.plan):
        if list(attempts_at(root))[-1][1] != before:
            raise FolderInUseError(f"another host has just taken over the part in {root}")
        number = before.attempt + 1
        while True:
            path = root.with_name(f"{root.name}.{number}")
            try:
                path.mkdir()  # atomic, so that of several hosts only one gets the number
                break
            except FileExistsError:
                number += 1  # an attempt that ended before it had a record; nothing has run in it
            except OSError as error:
                raise UsageError(f"cannot write to {path.parent}: {error.strerror}; choose another --out") from error
        folder = RunFolder(path)
        copy_records(last, folder)
        record = PartRecord.here(before.plan_sha256, before.part, number)
        write_text(folder.part, record.document())
    return folder, record


def copy_records(source: RunFolder, target: RunFolder) -> None:
    """Copy plan, logs and records of a part into the empty folder of its next attempt.

    Evidence and results are written anew from the logs. A measurement of the seal that failed is left out: no trial ran
    under it, and the next attempt measures its own.
    """
    target.logs.mkdir(exist_ok=True)
    for name in (source.plan.name, source.models.name):
        if source.files.exists(name):
            write_bytes(target.root / name, _read(source, name))
    for name in log_names(source.files, source.logs.name):
        copy_log(source, name, target)
    for seal in seals_of(source):
        if seal.report.verified:
            note_seal(target, seal)
    for note in entries(source.alarms, AlarmNote):
        append(target.alarms, note)
    for tried in preflights_of(source):
        append(target.preflight, tried)
    for path in source.records():
        if path.name.startswith("server-"):
            copy_file(source, path.name, target.root / path.name)


def copy_log(source: RunFolder, name: str, target: RunFolder) -> None:
    """Copy a log after checking it.

    Raises:
        EvidenceError: It is not a log, or the target has a log of that name.
    """
    check_log(source.files, name)
    path = target.root / name
    if path.exists():
        raise EvidenceError(f"{source.root / name}: another part has a log of the same name")
    copy_file(source, name, path)


def copy_file(source: RunFolder, name: str, target: Path) -> None:
    """Copy a regular file of a folder.

    Raises:
        EvidenceError: It cannot be read.
    """
    try:
        with source.files.open(name, (source.root / name).stat().st_size) as file, target.open("xb") as copy:
            shutil.copyfileobj(file, copy)
    except OSError as error:
        if error.filename is not None and str(error.filename) == str(target):
            raise
        raise EvidenceError(f"{source.root / name} cannot be copied: {error.strerror}") from error


def _read(folder: RunFolder, name: str) -> bytes:
    try:
        return folder.files.read(name)
    except OSError as error:
        raise EvidenceError(f"{folder.root / name} cannot be read: {error.strerror}") from error
