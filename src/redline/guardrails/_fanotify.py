"""Who opens certain files of a cell, told by the machine's kernel at the moment at which it happens."""

import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from redline.cell import Cell

FAN_CLOEXEC, FAN_NONBLOCK, FAN_CLASS_CONTENT = 0x01, 0x02, 0x04
FAN_MARK_ADD = 0x01
FAN_ACCESS, FAN_OPEN_PERM = 0x01, 0x10000
FAN_ALLOW = 1
AT_FDCWD = -100
EVENT = struct.Struct("=IBBHQii")
"""Length of the event, version, reserved, length of this head, mask, descriptor, pid."""
RESPONSE = struct.Struct("=iI")
"""Descriptor of the event, and what is answered."""
EVENTS_BYTES = 64 << 10
WAIT_MILLISECONDS = 100
MOST_KEPT = 64

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Opened:
    """One process opened or read one of the files."""

    pid: int
    """Its pid on the machine."""
    name: str
    """Its name; empty if it had ended before it could be asked."""
    read: bool
    """Whether it read, beyond opening."""


class Openings:
    """Watches files for openings by anybody inside of a cell, until it is closed.

    The harness looks at cells from outside, with processes that have another pid namespace: those do not count. So the
    kernel holds an opening back until it was seen whose it is, and every one is allowed. Where this harness ends, or
    closes, the kernel allows what waits.
    """

    def __init__(self, cell: Cell, files: Sequence[int], known: Sequence[int]) -> None:
        """Begins to watch.

        Args:
            cell: The cell.
            files: Descriptors of the files.
            known: Pids on the machine of those who may open them.

        Raises:
            OSError: The kernel does not allow it.
        """
        self._known = frozenset(known)
        self._inside = {_namespace(host.init.pid) for host in cell.hosts.values()}
        self._inside_by_pid: dict[int, bool] = {}
        self._told: set[tuple[int, bool]] = set()
        self._names: dict[int, str] = {}
        self._found: list[Opened] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        flags = FAN_CLOEXEC | FAN_NONBLOCK | FAN_CLASS_CONTENT
        self._fd = _checked(libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC))
        try:
            for file in files:
                path = f"/proc/self/fd/{file}".encode()
                mask = ctypes.c_uint64(FAN_OPEN_PERM | FAN_ACCESS)
                _checked(libc.fanotify_mark(self._fd, FAN_MARK_ADD, mask, AT_FDCWD, path))
        except OSError:
            os.close(self._fd)
            raise
        # A thread of its own: who opened a file can be gone before an event loop has its turn.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def taken(self) -> list[Opened]:
        """What was found since the last time."""
        with self._lock:
            found, self._found = self._found, []
        return found

    def close(self) -> None:
        """Stops watching. May be called again."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        try:
            while not self._over.is_set():
                if waiting.poll(WAIT_MILLISECONDS):
                    self._take()
        finally:
            os.close(self._fd)  # whatever went wrong, nobody is kept waiting

    def _take(self) -> None:
        """Takes in what waits, and lets it go on."""
        try:
            data = os.read(self._fd, EVENTS_BYTES)
        except BlockingIOError:
            return
        while len(data) >= EVENT.size:
            length, _, _, _, mask, file, pid = EVENT.unpack_from(data)
            data = data[length:]
            try:
                self._note(pid, read=bool(mask & FAN_ACCESS))
                if mask & FAN_OPEN_PERM:
                    os.write(self._fd, RESPONSE.pack(file, FAN_ALLOW))
            finally:
                if file >= 0:
                    os.close(file)

    def _note(self, pid: int, *, read: bool) -> None:
        if pid not in self._inside_by_pid:
            self._inside_by_pid[pid] = _is_in(pid, self._inside)
        if pid in self._known or not self._inside_by_pid[pid] or (pid, read) in self._told:
            return
        self._told.add((pid, read))
        # Only openings wait: who read may have ended, and then has the name under which he opened.
        name = self._names[pid] = _name(pid) or self._names.get(pid, "")
        with self._lock:
            if len(self._found) < MOST_KEPT:
                self._found.append(Opened(pid, name, read))


def _is_in(pid: int, namespaces: set[str]) -> bool:
    try:
        return _namespace(pid) in namespaces
    except OSError:
        return True  # gone, though its opening waited: killed meanwhile, which nobody does to the harness's own


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number) if number != errno.ENOSYS else "there is no fanotify")
    return result
