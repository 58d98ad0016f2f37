"""The folders of cells on the host, which harness owns each of them, and the sweep of those without a harness.

Their names reveal nothing to an agent.
"""

import contextlib
import fcntl
import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from redline._errors import UsageError
from redline.cell.folders import TRAVERSABLE, make_folder
from redline.cell.programs.prelude import lock_file
from redline.cell.spec import AGENT_ID
from redline.cell.toolset import SEARCH_PATH

RANGE_SIZE = 65536
FIRST_RANGE, LAST_RANGE = 16384, 32000
"""Ranges of ids for cells made by root: 2**30 and up, above the default ranges of /etc/subuid."""

NOBODY = 65534
START_SECONDS = 60.0
"""Age below which a folder without a lock is not swept: its harness may still be starting."""

FOLDER_TRIES = 20
"""How often something is tried in the folder of cells while other harnesses remove that folder."""

WORKBENCH = "bench-"
"""Start of the names of folders that a self-test of the seal works in."""

LOCK_FILE = "lock"
"""File in a folder that its process keeps locked."""

WARDEN_FILE = "warden"
"""Program of a harness's warden, in the harness's folder. A later sweep runs the same program."""

SETUP_FILE = "runtime"
"""Command line of a harness's runtime and what the warden's program must know about it, in JSON."""

SWEEP_SECONDS = 180.0
"""Time for the sweep of one harness's cells; the next sweep takes over what is left after it."""

FIELDS = 4
DIRECTORY_SECONDS = 20.0
"""Maximum time that a directory service can take to answer."""

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")


Result = TypeVar("Result")


@dataclass(frozen=True)
class IdSlice:
    """One contiguous piece of an id mapping."""

    inside: int
    outside: int
    size: int

    def oci(self) -> dict[str, int]:
        """Return the mapping as the OCI specification writes it."""
        return {"containerID": self.inside, "hostID": self.outside, "size": self.size}


@dataclass(frozen=True)
class IdMaps:
    """Mappings of the user and group ids inside to those of the host."""

    users: tuple[IdSlice, ...]
    groups: tuple[IdSlice, ...]


def state_location() -> Path:
    """Return the path of the folder of this user's cells, which may not exist."""
    uid = os.geteuid()
    base = Path("/run") if uid == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")
    return base / f"pods-{uid}"


def _other_state_folders(state: Path) -> list[Path]:
    """Return the state folders of the same user in another session, such as a cron job, which draw from the same ids.

    They matter without root only: root has one folder.
    """
    uid = os.geteuid()
    usual = [Path(base) / f"pods-{uid}" for base in (f"/run/user/{uid}", "/tmp")]
    return [folder for folder in usual if folder != state and _belongs_to(folder, uid)]


def _belongs_to(folder: Path, uid: int) -> bool:
    try:
        return folder.stat(follow_symlinks=False).st_uid == uid
    except OSError:
        return False


def state_folder() -> Path:
    """Return the folder of this user's cells; create it if needed.

    The last harness to end removes it, which can be at any moment: to make something in it, use `in_state_folder`.

    Raises:
        UsageError: It cannot be made, or belongs to another user.
    """
    return in_state_folder(lambda folder: folder)


def in_state_folder(action: Callable[[Path], Result]) -> Result:
    """Do something in the folder of this user's cells, again if another harness removes the folder meanwhile.

    Args:
        action: It gets the folder, which existed a moment ago.

    Returns:
        What the action returned.

    Raises:
        UsageError: The folder cannot be made, or belongs to another user.
        OSError: The action raised it; FileNotFoundError, if the folder was gone at every try.
    """
    folder = state_location()
    for tries_left in reversed(range(FOLDER_TRIES)):
        try:
            _make_state_folder(folder)
        except OSError as error:
            # FileExistsError: it was there when it was to be made, and gone when it was looked at.
            if tries_left and isinstance(error, FileNotFoundError | FileExistsError):
                continue
            raise UsageError(
                f"{folder} cannot be made ({error.strerror}): set XDG_RUNTIME_DIR to a folder of yours."
            ) from error
        try:
            return action(folder)
        except FileNotFoundError:
            if not tries_left:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _make_state_folder(folder: Path) -> None:
    make_folder(folder, exist_ok=True)
    info = folder.stat(follow_symlinks=False)
    if info.st_uid != os.geteuid() or folder.is_symlink():
        raise UsageError(
            f"{folder} does not belong to this user: remove it, or set XDG_RUNTIME_DIR to a folder of yours."
        )
    if info.st_mode & 0o777 != TRAVERSABLE:  # an existing folder with other rights than a new one
        folder.chmod(TRAVERSABLE)


def new_owner(state: Path) -> Path:
    """Create the folder of one harness.

    Raises:
        OSError: It cannot be made; FileNotFoundError, if another harness has just removed the empty state folder.
    """
    folder = state / secrets.token_hex(4)
    make_folder(folder)
    make_folder(folder / "cells")
    return folder


@contextlib.contextmanager
def workbench_folder() -> Iterator[Path]:
    """Create a folder next to those of cells, and remove it at the end; a sweep removes it if the process was killed.

    /tmp can be small, or mounted without exec. The runtimes of every user can traverse the folder.

    Raises:
        UsageError: The folder of cells cannot be made, or belongs to another user.
    """
    with in_state_folder(lambda state: tempfile.TemporaryDirectory(prefix=WORKBENCH, dir=state)) as name:
        folder = Path(name)
        folder.chmod(TRAVERSABLE)
        fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.suppress(OSError):  # without locks, a sweep cannot lock it either and keeps the folder
                lock_file(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        finally:
            os.close(fd)


def claim_ids(state: Path, cell_folder: Path) -> IdMaps:
    """Claim a free range of ids for a cell; a sweep releases it by the file that names it.

    Raises:
        UsageError: This user has no subordinate ids (see /etc/subuid), or all are taken.
    """
    candidates = _root_candidates() if os.geteuid() == 0 else _subordinate_candidates()
    others = _other_state_folders(state)
    for base, maps in candidates:
        claim = state / f"range-{base}"
        if any((folder / claim.name).exists() for folder in others):
            continue
        note = cell_folder / "range"
        note.write_text(str(claim))
        try:
            claim.hardlink_to(note)  # claims and records in one step, so that no crash leaves a stale claim
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
    """Yield small slices, so that the usual 65536 ids of a user are enough for many cells that share none.

    The cell's root is the user, because a rootless runtime owns its files as that; the agent is a subordinate id.
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
    """Return the first range of subordinate ids of this user.

    Raises:
        UsageError: It has none.
    """
    names = _names_of(os.geteuid())
    for owner, first, size in (*_subordinate_ids(file), *_ids_of_directory(max(names), file)):
        if owner in names:
            return range(first, first + size)
    raise UsageError(f"this user has no subordinate ids for cells: add a line `{max(names)}:100000:65536` to {file}.")


def _names_of(uid: int) -> set[str]:
    """Return the names by which a subordinate id file may refer to a user."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):  # a user id without an entry, as in a container
        names.add(pwd.getpwuid(uid).pw_name)
    # Other names of the same user. A directory service answers for one user, but it rarely lists all users.
    return names | {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid}


def _ids_of_directory(user: str, file: Path) -> list[tuple[str, int, int]]:
    """Return a user's subordinate ids from a directory service, which `getsubids` asks, as (owner, first id, count)."""
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
    words = [line.split() for line in done.stdout.split("\n")]
    return [(line[1], int(line[2]), int(line[3])) for line in words if len(line) == FIELDS and _are_numbers(line[2:])]


def _are_numbers(words: Sequence[str]) -> bool:
    return all(word.isascii() and word.isdigit() for word in words)


def _subordinate_ids(file: Path) -> list[tuple[str, int, int]]:
    """Return the lines of a subordinate id file as (owner, first id, count)."""
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


def install_warden(owner: Path, program: str, command: Sequence[str], *, own_kernel: bool) -> Path:
    """Write the program of a harness's warden and its setup into the harness's folder.

    Args:
        owner: The harness's folder.
        program: Text of the program.
        command: The runtime's command line up to its verb.
        own_kernel: Whether each cell has a kernel for itself.

    Returns:
        Path of the program.
    """
    path = owner / WARDEN_FILE
    path.write_text(program)
    (owner / SETUP_FILE).write_text(json.dumps({"runtime": list(command), "own_kernel": own_kernel}))
    return path


def sweep_stale(state: Path) -> int:
    """End and remove the cells of dead harnesses.

    Returns:
        Number of harness folders that were swept.
    """
    swept = 0
    for folder in sorted(state.iterdir()):
        if not (folder / "cells").is_dir() or not is_abandoned(folder):
            continue
        sweep_owner(folder)
        swept += 1
    _remove_workbenches(state)
    _free_claims(state)
    return swept


def _remove_workbenches(state: Path) -> None:
    """Remove the folders of killed self-tests. Of a young one, the owner may not have locked it yet."""
    for folder in state.glob(f"{WORKBENCH}*"):
        if not _is_young(folder) and is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def sweep_owner(folder: Path) -> None:
    """End and remove the cells of one harness. Its folder stays if something survives, for the next sweep."""
    program = folder / WARDEN_FILE
    if (folder / SETUP_FILE).exists():
        # A sweep that hangs is ended, and the folder stays for the next one.
        with contextlib.suppress(subprocess.TimeoutExpired):
            command = [sys.executable, "-I", "-S", str(program), str(folder)]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # the folder may vanish meanwhile: two sweeps of one folder do no harm
                check=False,
                timeout=SWEEP_SECONDS,
            )
            if done.returncode == 0:
                shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # its warden has swept it meanwhile
            if not any((folder / "cells").iterdir()):  # the harness died before it could make a cell
                shutil.rmtree(folder, ignore_errors=True)


def _free_claims(state: Path) -> None:
    """Remove the claims of ranges whose cell is gone; a claim is a hard link to a file in its cell's folder."""
    for claim in state.glob("range-*"):
        with contextlib.suppress(FileNotFoundError):
            if claim.stat().st_nlink == 1:
                claim.unlink()


def is_abandoned(owner: Path) -> bool:
    """Return whether the harness of a folder is dead.

    A harness is alive while its warden holds the lock of its folder, so a reused pid cannot mislead. A lock file is
    locked when it appears, so one that is not locked shows a dead warden. Without a lock file, the harness may be
    starting, or its warden may be removing the folder: then only the age of the folder tells.
    """
    try:
        fd = os.open(owner / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return not _is_young(owner)
    except OSError:
        return False
    try:
        return not _is_locked(fd)
    finally:
        os.close(fd)


def _is_young(folder: Path) -> bool:
    try:
        age = time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return False
    return abs(age) < START_SECONDS  # the clock may have been set back


def _is_locked(fd: int) -> bool:
    try:
        lock_file(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is held, or that cannot be known: then nothing is swept
        return True
    return False
