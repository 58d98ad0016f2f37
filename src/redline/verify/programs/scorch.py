"""Scorch program: kills processes by pid and start time, overwrites open files, empties a folder through a descriptor.

Run as text by the keeper of a cell: all capabilities over the cell, none over the machine; or in a node as its root,
where the machine cannot see in. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import stat
import struct
import time

TYPE_CHECKING = False  # the name that type checkers know; joined to a cell, few modules can be imported
if TYPE_CHECKING:
    from typing import Any

SYS_OPENAT2 = 437
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x01, 0x02, 0x04, 0x08
THREADS_FIELD, START_FIELD = 17, 19
CHUNK = 2**20
PAGE = 4096
ZEROS = bytes(CHUNK)
POLL_SECONDS = 0.002
SHOWN = 160

libc = ctypes.CDLL(None, use_errno=True)


def open_folder(parent: int, name: str) -> int:
    """Open a folder of a folder: no link, no other file system, nothing above."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    how = struct.pack("QQQ", os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC, 0, resolve)
    fd: int = libc.syscall(SYS_OPENAT2, parent, os.fsencode(name), how, len(how))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number not in (errno.ENOSYS, errno.EPERM):  # not there, or denied by a filter
        raise OSError(number, os.strerror(number), name)
    # A single name, opened as no link, leads nowhere but into this folder; a mount on it shows by its device.
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if os.fstat(fd).st_dev != os.fstat(parent).st_dev:
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return fd


def start_time(pid: int) -> int | None:
    """Return when a process started, None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ProcessLookupError):
        return None
    # A process whose first thread has ended is called a zombie too, and lives on in its other threads.
    ended = fields[0] in (b"Z", b"X") and int(fields[THREADS_FIELD]) <= 1
    return None if ended else int(fields[START_FIELD])


def kill(request: dict[str, Any]) -> dict[str, Any]:
    """Kill the given processes and wait until they are gone."""
    reply: dict[str, list[int]] = {"killed": [], "gone": [], "survivors": []}
    waiting: list[tuple[int, int, int | None]] = []
    for pid, start in request["processes"]:
        handle = None
        try:
            handle = os.pidfd_open(pid)
        except OSError as error:
            # Without pidfd (gVisor) nothing else of the agent's runs now: the harness has stopped it. A pid passes to
            # another process only when a running one starts it, so what is compared here is what is killed.
            if error.errno != errno.ENOSYS:
                reply["gone"].append(pid)
                continue
        # The handle is on whoever has the pid now; only then is it asked whether that is the one that is meant.
        if start_time(pid) != start:
            if handle is not None:
                os.close(handle)
            reply["gone"].append(pid)
            continue
        with contextlib.suppress(ProcessLookupError):
            if handle is None:
                os.kill(pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        waiting.append((pid, start, handle))
    deadline = time.monotonic() + request["seconds"]
    for pid, start, handle in waiting:
        reply["killed" if has_ended(pid, start, handle, deadline) else "survivors"].append(pid)
    return reply


def has_ended(pid: int, start: int, handle: int | None, deadline: float) -> bool:
    """Wait until a process is gone or a zombie. Closes the handle."""
    if handle is not None:
        ended = bool(select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0])
        os.close(handle)
        return ended
    while start_time(pid) == start:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def overwrite(fds: list[int], deadline: float) -> int:
    """Overwrite what files hold, then empty them: pages that someone mapped or spliced are overwritten too."""
    written = 0
    for fd in fds:
        size = os.fstat(fd).st_size
        position = 0
        while position < size and time.monotonic() < deadline:
            try:
                position = os.lseek(fd, position, os.SEEK_DATA)
                end = min(os.lseek(fd, position, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # no data behind this position
                written += overwrite_what_is_not_zero(fd, position, size, deadline)
                break
            while position < end:
                count = os.pwrite(fd, memoryview(ZEROS)[: end - position], position)
                position += count
                written += count
        os.ftruncate(fd, 0)
    return written


def overwrite_what_is_not_zero(fd: int, position: int, size: int, deadline: float) -> int:
    """Overwrite page by page where holes cannot be told from data: writing to a hole would use up the disk."""
    written = 0
    while position < size and time.monotonic() < deadline:
        read = os.pread(fd, CHUNK, position)
        if not read:
            break
        if read != ZEROS[: len(read)]:
            for at in range(0, len(read), PAGE):
                page = read[at : at + PAGE]
                if page != ZEROS[: len(page)]:
                    written += os.pwrite(fd, ZEROS[: len(page)], position + at)
        position += len(read)
    return written


class Clearing:
    """Removes everything below a folder."""

    def __init__(self, most: int, deadline: float) -> None:
        """Note at most so many residues and stop at the deadline."""
        self.removed = 0
        self.residues: list[str] = []
        self.most = most
        self.deadline = deadline

    def note(self, name: str, why: str) -> None:
        """Keep what could not be removed."""
        if len(self.residues) < self.most:
            self.residues.append(f"{name}: {why}"[:SHOWN].encode("utf-8", "replace").decode())

    def clear(self, folder: int) -> None:
        """Remove what a folder holds, however deep it is nested. Links are removed, never followed.

        A folder in it is emptied by moving its folders up, so neither descriptors nor the stack grow with the depth.
        """
        missed: set[str] = set()
        number = 0
        while names := [name for name in os.listdir(folder) if name not in missed]:
            for name in names:
                if time.monotonic() > self.deadline:
                    self.note(name, "no time left")
                    return
                try:
                    number = self.remove(folder, name, number)
                except OSError as error:
                    missed.add(name)
                    self.note(name, os.strerror(error.errno or 0))

    def remove(self, folder: int, name: str, number: int) -> int:
        """Remove one entry; what it holds of folders becomes an entry beside it. Returns the next name for these."""
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            child = open_folder(folder, name)
            try:
                for below in os.listdir(child):
                    if time.monotonic() > self.deadline:
                        raise OSError(errno.ETIMEDOUT, "no time left")
                    if not stat.S_ISDIR(os.stat(below, dir_fd=child, follow_symlinks=False).st_mode):
                        os.unlink(below, dir_fd=child)
                        self.removed += 1
                        continue
                    while is_there(folder, f"moved-{number}"):
                        number += 1
                    os.rename(below, f"moved-{number}", src_dir_fd=child, dst_dir_fd=folder)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
        self.removed += 1
        return number


def is_there(folder: int, name: str) -> bool:
    """Whether a folder has an entry of a name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def clear(request: dict[str, Any], folder: int) -> dict[str, Any]:
    """Empty the folder, then remove it where its parent still shows it under some name."""
    clearing = Clearing(request["residues"], time.monotonic() + request["seconds"])
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        clearing.clear(own)
        status = os.fstat(own)
        if status.st_nlink:
            parent = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=own)
            try:
                remove_from(parent, (status.st_dev, status.st_ino), clearing)
            finally:
                os.close(parent)
    finally:
        os.close(own)
    return {"removed": clearing.removed, "residues": clearing.residues}


def remove_from(parent: int, folder: tuple[int, int], clearing: Clearing) -> None:
    """Remove an emptied folder from its parent, by whatever name it has there."""
    for name in os.listdir(parent):
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == folder:
                os.rmdir(name, dir_fd=parent)
                clearing.removed += 1
                return
        except OSError as error:
            clearing.note(name, os.strerror(error.errno or 0))


def destroy(request: dict[str, Any], folder: int, weights: list[int]) -> dict[str, Any]:
    """Overwrite and empty the weight files, then remove the folder."""
    sizes = [os.fstat(fd).st_size for fd in weights]
    overwritten = overwrite(weights, time.monotonic() + request["seconds"])
    return {
        "sizes": sizes,
        "overwritten": overwritten,
        **clear(request, folder),
        "left": sum(os.fstat(fd).st_size for fd in weights),
    }


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Kill processes, or destroy the folder that comes first and the open weight files."""
    if request["mode"] == "kill":
        return kill(request), []
    return destroy(request, fds[0], fds[1:]), []
