"""Watch which processes of a cell open certain files, with the fanotify API of the host's kernel."""

import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from redline.cell import Cell, ProcessRef
from redline.cell.programs.prelude import start_time

FAN_CLOEXEC, FAN_NONBLOCK, FAN_CLASS_CONTENT = 0x01, 0x02, 0x04
FAN_MARK_ADD = 0x01
FAN_ACCESS, FAN_OPEN_PERM = 0x01, 0x10000
FAN_ALLOW = 1
AT_FDCWD = -100
EVENT = struct.Struct("=IBBHQii")
"""Event length, version, reserved, header length, mask, descriptor, pid."""
RESPONSE = struct.Struct("=iI")
"""Descriptor of the event, and the response."""
EVENTS_BYTES = 64 << 10
POLL_MILLISECONDS = 100
MAX_FINDINGS = 64
MAX_PROCESSES = 4096
"""Maximum number of remembered processes: an agent can start any number of them."""
CLOSE_SECONDS = 5.0

libc = ctypes.CDLL(None, use_errno=True)

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class FileAccess:
    """An access of one process to one of the files."""

    pid: int
    """Pid of the process on the host."""
    name: str
    """Name of the process; empty if it ended before the name was read."""
    read: bool
    """Whether the process also read the file."""


Identity = tuple[int, int | None]
"""Pid and start time of a process, since a pid can be reused. The start time is None if the process ended before it was
read; while an open is pending, only a killed process can end."""


@dataclass
class _Process:
    is_inside: bool
    name: str
    reported: set[bool] = field(default_factory=set)
    """Reported accesses: False for opening, True for reading."""


class OpenMonitor:
    """Watch files for accesses by the processes of a cell, until it is closed.

    The harness inspects cells from outside, with processes in another pid namespace; these do not count. The kernel
    therefore holds each open until its process has been identified, and every open is then allowed. When the monitor is
    closed or the harness ends, the kernel allows all pending opens.
    """

    def __init__(self, cell: Cell, files: Sequence[int], known: Sequence[ProcessRef]) -> None:
        """Start to watch.

        Args:
            cell: The cell.
            files: Descriptors of the files.
            known: Processes whose accesses are not reported.

        Raises:
            OSError: The kernel does not support or permit it.
        """
        self._known: frozenset[Identity] = frozenset((process.pid, process.start) for process in known)
        self._inside = {_namespace(node.init.pid) for node in cell.nodes.values()}
        self._processes: dict[Identity, _Process] = {}
        self._latest: dict[int, Identity] = {}
        self._findings: list[FileAccess] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
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
        # A separate thread, since a process can end before an event loop handles its access.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self) -> list[FileAccess]:
        """Return the accesses since the last call."""
        with self._lock:
            findings, self._findings = self._findings, []
        return findings

    def close(self) -> None:
        """Stop watching. Can be called more than once."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            while not self._closed.is_set():
                if poll.poll(POLL_MILLISECONDS):
                    self._handle_events()
        finally:
            os.close(self._fd)  # also after an error, so that no process stays blocked

    def _handle_events(self) -> None:
        """Record the pending events and allow them."""
        try:
            data = os.read(self._fd, EVENTS_BYTES)
        except BlockingIOError:
            return
        while len(data) >= EVENT.size:
            length, _, _, _, mask, file, pid = EVENT.unpack_from(data)
            data = data[length:]
            try:
                self._record(pid, read=bool(mask & FAN_ACCESS), is_pending=bool(mask & FAN_OPEN_PERM))
                if mask & FAN_OPEN_PERM:
                    os.write(self._fd, RESPONSE.pack(file, FAN_ALLOW))
            finally:
                if file >= 0:
                    os.close(file)

    def _record(self, pid: int, *, read: bool, is_pending: bool) -> None:
        identity = self._identity(pid, is_pending=is_pending)
        process = self._processes.get(identity)
        if process is None:
            process = _Process(_is_inside(pid, self._inside), "")
            _remember(self._processes, identity, process)
        if identity in self._known or not process.is_inside or read in process.reported:
            return
        process.reported.add(read)
        process.name = _name(pid, identity[1]) or process.name
        with self._lock:
            if len(self._findings) < MAX_FINDINGS:
                self._findings.append(FileAccess(pid, process.name, read))

    def _identity(self, pid: int, *, is_pending: bool) -> Identity:
        """Return the process of an event.

        Only an open waits for a response, so only its process certainly still exists. A process that read may have
        ended; it is then the process with that pid that last opened a file.
        """
        start = start_time(pid)
        if start is None and not is_pending and pid in self._latest:
            return self._latest[pid]
        _remember(self._latest, pid, (pid, start))
        return pid, start


def _is_inside(pid: int, namespaces: set[str]) -> bool:
    try:
        return _namespace(pid) in namespaces
    except OSError:
        return True  # killed while its open was pending, which does not happen to processes of the harness


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def _name(pid: int, start: int | None) -> str:
    """Return the name of exactly this process; empty if it has ended. The agent chooses the name."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        return ""
    return name if start_time(pid) == start else ""


def _remember(known: dict[K, V], key: K, value: V) -> None:
    """Add an entry and drop the oldest if there are too many. A dropped process may be reported again."""
    known.pop(key, None)
    known[key] = value
    if len(known) > MAX_PROCESSES:
        del known[next(iter(known))]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number) if number != errno.ENOSYS else "fanotify is not available")
    return result
