"""Scorch program: kills processes by pid and start time, overwrites open files, empties a folder by its descriptor.

The keeper of a cell runs this text with all capabilities over the cell and none over the host; where the host cannot
see into the cell, root of a node runs it. Standard library only.
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

from redline.cell.programs.prelude import (
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    SYS_OPENAT2,
    is_alive,
    libc,
    stat_fields,
)

TYPE_CHECKING = False  # type checkers evaluate imports below this name; joined to a cell, few modules can be imported
if TYPE_CHECKING:
    from typing import Any

RESOLVE_NO_XDEV, RESOLVE_BENEATH = 0x01, 0x08
START_FIELD = 19
CHUNK = 2**20
PAGE = 4096
ZEROS = bytes(CHUNK)
POLL_SECONDS = 0.002
SHOWN = 160


def open_folder(parent: int, name: str) -> int:
    """Open a folder directly in a folder: through no link, on the same file system."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    how = struct.pack("QQQ", os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC, 0, resolve)
    fd: int = libc.syscall(SYS_OPENAT2, parent, os.fsencode(name), how, len(how))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number not in (errno.ENOSYS, errno.EPERM):  # openat2 is missing, or a filter denies it
        raise OSError(number, os.strerror(number), name)
    # A single name that is not a link cannot leave this folder; a mount on it has another device.
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if os.fstat(fd).st_dev != os.fstat(parent).st_dev:
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return fd


def live_start(pid: int) -> int | None:
    """Return the start time of a process, or None if it has ended."""
    fields = stat_fields(pid)
    return int(fields[START_FIELD]) if is_alive(fields) else None


def kill(request: dict[str, Any]) -> dict[str, Any]:
    """Kill the given processes and wait until they are gone."""
    reply: dict[str, list[int]] = {"killed": [], "gone": [], "survivors": []}
    waiting: list[tuple[int, int, int | None]] = []
    for pid, start in request["processes"]:
        handle = None
        try:
            handle = os.pidfd_open(pid)
        except OSError as error:
            # Without pidfd (gVisor), the harness has stopped every other process of the agent. A pid is reused only
            # when a running process starts another one, so the process compared below is the one that is killed.
            if error.errno != errno.ENOSYS:
                reply["gone"].append(pid)
                continue
        # The handle refers to the present holder of the pid. Only now can the start time identify the process.
        if live_start(pid) != start:
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
    """Wait until a process is gone or a zombie, and close the handle. Return whether it has ended."""
    if handle is not None:
        ended = bool(select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0])
        os.close(handle)
        return ended
    while live_start(pid) == start:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def overwrite(fds: list[int], deadline: float) -> int:
    """Overwrite the content of files, then empty them, so that mapped or spliced pages are overwritten too."""
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
                    break
                written += overwrite_nonzero_pages(fd, position, size, deadline)
                break
            while position < end:
                count = os.pwrite(fd, memoryview(ZEROS)[: end - position], position)
                position += count
                written += count
        os.ftruncate(fd, 0)
    return written


def overwrite_nonzero_pages(fd: int, position: int, size: int, deadline: float) -> int:
    """Overwrite page by page where the kernel does not report holes; writing to holes would fill the disk."""
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

    def __init__(self, limit: int, deadline: float) -> None:
        """Record at most `limit` residues and stop at the deadline."""
        self.removed = 0
        self.residues: list[str] = []
        self.limit = limit
        self.deadline = deadline

    def note(self, name: str, why: str) -> None:
        """Record what could not be removed."""
        if len(self.residues) < self.limit:
            self.residues.append(f"{name}: {why}"[:SHOWN].encode("utf-8", "replace").decode())

    def clear(self, folder: int) -> None:
        """Remove the content of a folder at any depth. Links are removed, never followed.

        Subfolders are moved up before their parent is removed, so depth costs neither descriptors nor stack.
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
        """Remove one entry and move its subfolders next to it. Return the next number for their names."""
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
                    while has_entry(folder, f"moved-{number}"):
                        number += 1
                    os.rename(below, f"moved-{number}", src_dir_fd=child, dst_dir_fd=folder)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
        self.removed += 1
        return number


def has_entry(folder: int, name: str) -> bool:
    """Return whether a folder has an entry with this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def clear(request: dict[str, Any], folder: int) -> dict[str, Any]:
    """Empty the folder, then remove it if its parent still contains it under any name."""
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
    """Remove an emptied folder from its parent, under its present name."""
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
    """Kill processes, then destroy the folder, whose descriptor comes first, and the open weight files."""
    folder, *weights = fds
    return {**kill(request), **destroy(request, folder, weights)}, []
