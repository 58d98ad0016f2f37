"""An exclusive lock on a folder of results, on local and on network file systems."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redline._errors import UsageError
from redline.cell.programs.prelude import NO_FLOCK


class FolderInUseError(UsageError):
    """Raised for a folder that another process has locked."""


RECORD_LOCK = ".lock"
"""File for the record lock. It is a file of its own: closing any descriptor of a file ends a process's record locks."""


@contextmanager
def exclusive_lock(folder: Path, file: Path) -> Iterator[None]:
    """Hold an exclusive lock while the block runs. The kernel releases it when the process ends.

    Uses `flock` on the file, and where the file system does not have it, a POSIX record lock on `.lock` next to it.

    Args:
        folder: Folder that the lock is about, as messages name it.
        file: File in it to lock; it must be writable, since NFS locks nothing else.

    Raises:
        FolderInUseError: Another process holds the lock.
        UsageError: The file system has no locks.
    """
    with ExitStack() as opened:
        try:
            _lock(file, fcntl.flock, opened)
        except BlockingIOError as error:
            raise _is_held(folder) from error
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise _no_lock(folder, error) from error
            try:
                _lock(file.with_name(RECORD_LOCK), fcntl.lockf, opened)
            except (BlockingIOError, PermissionError) as held:  # POSIX allows both for a lock that is held
                raise _is_held(folder) from held
            except OSError as fault:
                raise _no_lock(folder, fault) from fault
        yield


def _lock(file: Path, lock: Callable[[int, int], None], opened: ExitStack) -> None:
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    opened.callback(os.close, fd)
    lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(folder: Path) -> FolderInUseError:
    return FolderInUseError(f"another run is writing to {folder}; wait for it or choose another --out")


def _no_lock(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"{folder} cannot be locked: {error.strerror}; choose another --out, such as on a local disk")
