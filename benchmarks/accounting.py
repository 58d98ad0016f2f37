"""Processor time of a program and all its descendants, by program, from the kernel's own accounting.

`getrusage` and `times` miss processes that no process waits for. The kernel's process events report every fork and
exec, and its task statistics the processor time of every thread at its end. Needs root.
"""

import os
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONNECTOR, CONNECTOR_PROCESSES = 11, 1
FORK, EXEC = 1, 2
GENERIC, CONTROL_FAMILY = 16, 16
GET_FAMILY, FAMILY_ID, FAMILY_NAME = 3, 1, 2
REGISTER_MASK = 3
STATS, PID_AND_STATS = 3, 4
PID_OFFSET, TIME_OFFSET = 128, 72
"""Positions of `ac_pid` and `cpu_run_virtual_total` in a `struct taskstats`, the same in every version."""

BUFFER = 32 << 20
DRAIN_SECONDS = 0.2

ROOT_ROLE = "harness"

Role = Callable[[list[str]], str]
"""Function from a command line to the role of the process."""


@dataclass
class Usage:
    """Processor time and program starts of a tree of processes."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Processor time by role, in seconds."""

    starts: Counter[str] = field(default_factory=Counter)
    """Number of started programs by role."""

    processes: Counter[str] = field(default_factory=Counter)
    """Number of processes by role, forks without a program of their own included."""

    @property
    def total(self) -> float:
        """Processor time of the whole tree, in seconds."""
        return sum(self.seconds.values())


class Tree:
    """The processes that descend from one."""

    def __init__(self, root: int, role: Role, forked: Callable[[str], str]) -> None:
        """Start with the process `root`; `role` names programs, `forked` the forks of a role."""
        self.usage = Usage()
        self._root = root
        self._role, self._forked = role, forked
        self._roles = {root: ROOT_ROLE}
        self._processes: dict[int, int] = {}

    def fork(self, parent: int, thread: int, process: int) -> None:
        """Add a new thread or process, if its parent belongs to the tree."""
        if process == self._root:
            return
        if thread == process:
            self._roles.pop(process, None)  # a pid that was used before
        if parent not in self._roles:
            self._processes.pop(thread, None)
            return
        self._processes[thread] = process
        if thread == process:
            role = self._forked(self._roles[parent])
            self._roles[process] = role
            self.usage.processes[role] += 1

    def exec(self, process: int) -> None:
        """Note that a process was replaced by a program."""
        if process not in self._roles or process == self._root:
            return
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            command = []  # it has ended
        role = self._role(command)
        self.usage.processes[self._roles[process]] -= 1
        self.usage.processes[role] += 1
        self.usage.starts[role] += 1
        self._roles[process] = role

    def end(self, thread: int, seconds: float) -> None:
        """Count the processor time of a thread that ended. The root reports its own."""
        role = self._roles.get(self._processes.get(thread, thread))
        if role is not None and role != ROOT_ROLE:
            self.usage.seconds[role] += seconds


def measure(
    command: Sequence[str], role: Role, forked: Callable[[str], str], environment: dict[str, str] | None = None
) -> Usage:
    """Run a program and return the processor time of its tree between two marks.

    The program prints a line with its own processor time at the beginning and at the end of what is measured, and waits
    for a line each time.

    Raises:
        PermissionError: This user is not root, or the kernel has no task statistics.
        RuntimeError: The program failed.
    """
    with _process_events() as events, _task_ends() as ends:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )
        assert process.stdin is not None and process.stdout is not None
        tree = Tree(process.pid, role, forked)
        over = threading.Event()
        listener = threading.Thread(target=_listen, args=(tree, events, ends, over))
        listener.start()
        marks: list[tuple[float, Usage]] = []
        try:
            for line in process.stdout:
                time.sleep(2 * DRAIN_SECONDS)
                marks.append((float(line), tree.usage))
                tree.usage = Usage()
                process.stdin.write("\n")
        finally:
            process.stdin.close()
            status = process.wait()
            over.set()
            listener.join()
    if status != 0 or len(marks) != 2:
        raise RuntimeError(f"{' '.join(command)} exited with status {status}")
    (begun, _), (ended, usage) = marks
    usage.seconds[ROOT_ROLE] = ended - begun
    return usage


def _listen(tree: Tree, events: socket.socket, ends: socket.socket, over: threading.Event) -> None:
    with selectors.DefaultSelector() as selector:
        for channel in (events, ends):
            channel.setblocking(False)
            selector.register(channel, selectors.EVENT_READ)
        while selector.select(DRAIN_SECONDS) or not over.is_set():
            # The event of a thread's start precedes its end. So after one end, all starts are read first.
            finished = list(_messages(ends))
            for kind, payload in _messages(events):
                _process_event(tree, kind, payload)
            for kind, payload in finished:
                if kind >= CONTROL_FAMILY:  # others acknowledge the subscription
                    _task_end(tree, payload)


def _process_event(tree: Tree, kind: int, payload: bytes) -> None:
    what, _, _, *numbers = struct.unpack_from("=IIQIIII", payload, 20)
    if what == FORK:
        _, parent, thread, process = numbers
        tree.fork(parent, thread, process)
    elif what == EXEC:
        tree.exec(numbers[1])


def _task_end(tree: Tree, payload: bytes) -> None:
    for kind, group in _attributes(payload[4:]):
        if kind == PID_AND_STATS:
            stats = dict(_attributes(group)).get(STATS, b"")
            (thread,) = struct.unpack_from("=I", stats, PID_OFFSET)
            (nanoseconds,) = struct.unpack_from("=Q", stats, TIME_OFFSET)
            tree.end(thread, nanoseconds / 1e9)


def _messages(channel: socket.socket) -> "list[tuple[int, bytes]]":
    found: list[tuple[int, bytes]] = []
    while True:
        try:
            data = channel.recv(1 << 16)
        except BlockingIOError:
            return found
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            found.append((kind, data[16:length]))
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> "list[tuple[int, bytes]]":
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[max((length + 3) & ~3, 4) :]
    return found


def _process_events() -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, CONNECTOR)
    channel.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
    channel.bind((0, CONNECTOR_PROCESSES))
    listen = struct.pack("=IIIIHHI", 1, 1, 0, 0, 4, 0, 1)
    channel.send(struct.pack("=IHHII", 16 + len(listen), 3, 0, 0, os.getpid()) + listen)
    return channel


def _task_ends() -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC)
    channel.setsockopt(socket.SOL_SOCKET, 33, BUFFER)
    channel.bind((0, 0))
    _send(channel, CONTROL_FAMILY, GET_FAMILY, FAMILY_NAME, b"TASKSTATS\0")
    reply = channel.recv(1 << 16)
    found = dict(_attributes(reply[20:]))
    if FAMILY_ID not in found:
        raise PermissionError("the kernel has no task statistics")
    (family,) = struct.unpack("=H", found[FAMILY_ID])
    _send(channel, family, 1, REGISTER_MASK, f"0-{(os.cpu_count() or 1) - 1}".encode() + b"\0")
    return channel


def _send(channel: socket.socket, family: int, command: int, kind: int, value: bytes) -> None:
    attribute = struct.pack("=HH", 4 + len(value), kind) + value
    attribute += b"\0" * (-len(attribute) % 4)
    body = struct.pack("=BBH", command, 1, 0) + attribute
    channel.send(struct.pack("=IHHII", 16 + len(body), family, 1, 0, 0) + body)
