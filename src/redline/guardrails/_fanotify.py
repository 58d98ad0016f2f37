"""Who opens certain files of a cell, told by the machine's kernel at the moment at which it happens."""

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
"""Length of the event, version, reserved, length of this head, mask, descriptor, pid."""
RESPONSE = struct.Struct("=iI")
"""Descriptor of the event, and what is answered."""
EVENTS_BYTES = 64 << 10
WAIT_MILLISECONDS = 100
MAX_KEPT = 64
MAX_KNOWN = 4096
"""Processes that are remembered: an agent can make any number of them."""
CLOSE_SECONDS = 5.0

libc = ctypes.CDLL(None, use_errno=True)

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Opened:
    """One process opened or read one of the files."""

    pid: int
    """Its pid on the machine."""
    name: str
    """Its name; empty if it had ended before it could be asked."""
    read: bool
    """Whether it read, beyond opening."""


Identity = tuple[int, int | None]
"""A process: its pid and start time, since a pid alone is given to another process later. The start time is None of one
that had ended before it could be asked, which only a killed process does while its opening waits."""


@dataclass
class _Process:
    is_inside: bool
    name: str
    told: set[bool] = field(default_factory=set)
    """Whether it was reported for opening (False) and for reading (True)."""


class Openings:
    """Watches files for openings by anybody inside of a cell, until it is closed.

    The harness looks at cells from outside, with processes that have another pid namespace: those do not count. So the
    kernel holds an opening back until it was seen whose it is, and every one is allowed. Where this harness ends, or
    closes, the kernel allows what waits.
    """

    def __init__(self, cell: Cell, files: Sequence[int], known: Sequence[ProcessRef]) -> None:
        """Begins to watch.

        Args:
            cell: The cell.
            files: Descriptors of the files.
            known: Processes that may open them.

        Raises:
            OSError: The kernel does not allow it.
        """
        self._known: frozenset[Identity] = frozenset((process.pid, process.start) for process in known)
        self._inside = {_namespace(node.init.pid) for node in cell.nodes.values()}
        self._processes: dict[Identity, _Process] = {}
        self._latest: dict[int, Identity] = {}
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
        self._thread.join(CLOSE_SECONDS)

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
                self._note(pid, read=bool(mask & FAN_ACCESS), waits=bool(mask & FAN_OPEN_PERM))
                if mask & FAN_OPEN_PERM:
                    os.write(self._fd, RESPONSE.pack(file, FAN_ALLOW))
            finally:
                if file >= 0:
                    os.close(file)

    def _note(self, pid: int, *, read: bool, waits: bool) -> None:
        identity = self._identity(pid, waits=waits)
        process = self._processes.get(identity)
        if process is None:
            process = _Process(_is_in(pid, self._inside), "")
            _keep(self._processes, identity, process)
        if identity in self._known or not process.is_inside or read in process.told:
            return
        process.told.add(read)
        process.name = _name(pid, identity[1]) or process.name
        with self._lock:
            if len(self._found) < MAX_KEPT:
                self._found.append(Opened(pid, process.name, read))

    def _identity(self, pid: int, *, waits: bool) -> Identity:
        """The process that an event is of.

        Only openings wait for an answer, so only their process is certainly still there. One that read may have ended;
        it is then the one of that pid that opened last.
        """
        start = start_time(pid)
        if start is None and not waits and pid in self._latest:
            return self._latest[pid]
        _keep(self._latest, pid, (pid, start))
        return pid, start


def _is_in(pid: int, namespaces: set[str]) -> bool:
    try:
        return _namespace(pid) in namespaces
    except OSError:
        return True  # gone, though its opening waited: killed meanwhile, which nobody does to the harness's own


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def _name(pid: int, start: int | None) -> str:
    """The name of that very process; empty if it has ended. Its bytes are the agent's choice."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        return ""
    return name if start_time(pid) == start else ""


def _keep(known: dict[K, V], key: K, value: V) -> None:
    """Add an entry; where there are too many, the oldest is forgotten, at worst to be reported once more."""
    known.pop(key, None)
    known[key] = value
    if len(known) > MAX_KNOWN:
        del known[next(iter(known))]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number) if number != errno.ENOSYS else "there is no fanotify")
    return result
