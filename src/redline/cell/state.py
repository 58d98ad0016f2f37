"""Where cells live on the machine, under names that tell an agent nothing, and who owns them."""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from redline._errors import UsageError
from redline.cell.folders import TRAVERSABLE, make_folder
from redline.cell.programs.warden import lock_file
from redline.cell.runtime import SEARCH_PATH
from redline.cell.spec import AGENT_ID, IdMaps, IdSlice

RANGE_SIZE = 65536
FIRST_RANGE, LAST_RANGE = 16384, 32000
"""Ranges of ids for cells made by root: 2**30 and up, above what /etc/subuid hands out by default."""

NOBODY = 65534
START_SECONDS = 60.0
"""A folder without a lock is left alone for so long."""

SWEEP_SECONDS = 180.0
"""A sweep of one harness's cells that takes longer is ended, and left to the next."""

FIELDS = 4
DIRECTORY_SECONDS = 20.0
"""Maximum time that a directory service may take to answer."""

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")


def state_folder() -> Path:
    """The folder of this user's cells; made if need be.

    Raises:
        UsageError: It cannot be made, or belongs to someone else.
    """
    uid = os.geteuid()
    base = Path("/run") if uid == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")
    folder = base / f"pods-{uid}"
    try:
        make_folder(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made ({error.strerror}): set XDG_RUNTIME_DIR to a folder of yours."
        ) from error
    info = folder.stat(follow_symlinks=False)
    if info.st_uid != uid or folder.is_symlink():
        raise UsageError(
            f"{folder} does not belong to this user: remove it, or set XDG_RUNTIME_DIR to a folder of yours."
        )
    if info.st_mode & 0o777 != TRAVERSABLE:  # made by another version, or with other rights
        folder.chmod(TRAVERSABLE)
    return folder


def new_owner(state: Path) -> Path:
    """Makes the folder of one harness.

    Raises:
        FileNotFoundError: Another harness has just ended and taken the empty state folder along.
    """
    folder = state / secrets.token_hex(4)
    make_folder(folder)
    make_folder(folder / "cells")
    return folder


def claim_ids(state: Path, cell_folder: Path) -> IdMaps:
    """Takes a free range of ids for a cell; the sweep frees it by the file that names it.

    Raises:
        UsageError: This user has no ids to give (see /etc/subuid), or all are taken.
    """
    candidates = _root_candidates() if os.geteuid() == 0 else _subordinate_candidates()
    for base, maps in candidates:
        claim = state / f"range-{base}"
        note = cell_folder / "range"
        note.write_text(str(claim))
        try:
            claim.hardlink_to(note)  # at once taken and noted by whom, so that no crash leaves a claim behind
        except FileExistsError:
            continue
        return maps
    raise UsageError("all ranges of user ids for cells are taken: run `inspect sandbox cleanup cell`.")


def _root_candidates() -> Iterator[tuple[int, IdMaps]]:
    taken = [(first, first + size) for file in (SUBUID, SUBGID) for _, first, size in _subordinate_ids(file)]
    start = FIRST_RANGE + secrets.randbelow(LAST_RANGE - FIRST_RANGE)
    for number in (*range(start, LAST_RANGE), *range(FIRST_RANGE, start)):
        base = number * RANGE_SIZE
        if all(base + RANGE_SIZE <= low or base >= high for low, high in taken):
            whole = (IdSlice(0, base, RANGE_SIZE),)
            yield base, IdMaps(whole, whole)


def _subordinate_candidates() -> Iterator[tuple[int, IdMaps]]:
    """Small slices, so that the usual 65536 ids of a user are enough for many cells that do not share any.

    The cell's root is the user, because a rootless runtime gives files of its own to it; the agent is a subordinate id.
    """
    users, groups = own_subordinate_ids(SUBUID), own_subordinate_ids(SUBGID)
    inside = (AGENT_ID, NOBODY)
    for index in range(0, min(len(users), len(groups)) - len(inside) + 1, len(inside)):
        yield (
            users[index],
            IdMaps(
                (
                    IdSlice(0, os.geteuid(), 1),
                    *(IdSlice(inner, users[index + at], 1) for at, inner in enumerate(inside)),
                ),
                (
                    IdSlice(0, os.getegid(), 1),
                    *(IdSlice(inner, groups[index + at], 1) for at, inner in enumerate(inside)),
                ),
            ),
        )


def own_subordinate_ids(file: Path) -> range:
    """The first range of subordinate ids that this user has.

    Raises:
        UsageError: It has none.
    """
    names = _names_of(os.geteuid())
    for owner, first, size in (*_subordinate_ids(file), *_ids_of_directory(max(names), file)):
        if owner in names:
            return range(first, first + size)
    raise UsageError(f"this user has no subordinate ids for cells: add a line `{max(names)}:100000:65536` to {file}.")


def _names_of(uid: int) -> set[str]:
    """The words by which a subordinate id file may name a user."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):  # a user id without an entry, as in a container
        names.add(pwd.getpwuid(uid).pw_name)
    # Another name of the same user. A directory service answers for one user, but seldom lists all.
    return names | {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid}


def _ids_of_directory(user: str, file: Path) -> list[tuple[str, int, int]]:
    """Subordinate ids that a directory service gives a user, as (owner, first id, count); asked for by `getsubids`."""
    program = shutil.which("getsubids", path=SEARCH_PATH)
    if program is None:
        return []
    command = [program, *(["-g"] if file == SUBGID else []), user]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DIRECTORY_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    # A line is `0: user first count`.
    words = [line.split() for line in done.stdout.splitlines()]
    return [(line[1], int(line[2]), int(line[3])) for line in words if len(line) == FIELDS and _are_numbers(line[2:])]


def _are_numbers(words: Sequence[str]) -> bool:
    return all(word.isascii() and word.isdigit() for word in words)


def _subordinate_ids(file: Path) -> list[tuple[str, int, int]]:
    """Lines of a subordinate id file as (owner, first id, count)."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        owner, _, rest = line.partition(":")
        start, _, size = rest.partition(":")
        if _are_numbers([start, size]):
            found.append((owner, int(start), int(size)))
    return found


def sweep_stale(state: Path, runtime: Sequence[str]) -> int:
    """Ends and removes the cells of harnesses that are no more.

    A harness is alive while its warden holds the lock of its folder, so a pid that was given to another process since
    cannot mislead.

    Returns:
        How many harnesses' folders were swept.
    """
    swept = 0
    for folder in sorted(state.iterdir()):
        if not (folder / "cells").is_dir() or has_living_warden(folder) or _is_being_made(folder):
            continue
        sweep_owner(folder, runtime)
        swept += 1
    _free_claims(state)
    return swept


def sweep_owner(folder: Path, runtime: Sequence[str]) -> None:
    """Ends and removes the cells of one harness. Its folder stays where something survives, for the next sweep."""
    own = _runtime_of(folder) or list(runtime)
    place = "docker/programs" if Path(own[0]).name == "docker" else "programs"
    program = str(files("redline.cell").joinpath(f"{place}/warden.py"))
    command = [sys.executable, "-I", "-S", program, str(folder), *own]
    # A sweep that hangs is ended, and the folder stays for the next.
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=SWEEP_SECONDS)
        if done.returncode == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _free_claims(state: Path) -> None:
    """Removes claims of ranges whose cell is gone: each is one file with the one in its cell's folder."""
    for claim in state.glob("range-*"):
        with contextlib.suppress(FileNotFoundError):
            if claim.stat().st_nlink == 1:
                claim.unlink()


def has_living_warden(owner: Path) -> bool:
    """Whether the warden of a harness's folder still runs."""
    return _is_locked(owner / "lock")


def _is_being_made(folder: Path) -> bool:
    """Whether a harness has just made its folder and its warden has yet to come up and lock it."""
    try:
        age = time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return True  # swept by another harness meanwhile
    return not (folder / "lock").exists() and abs(age) < START_SECONDS  # the clock may have been set back


def _is_locked(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        lock_file(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is held, or it cannot be known: then nothing is swept
        return True
    finally:
        os.close(fd)
    return False


def _runtime_of(folder: Path) -> list[str]:
    try:
        return (folder / "runtime").read_text().split("\0")
    except OSError:
        return []
