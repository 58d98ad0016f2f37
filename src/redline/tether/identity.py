"""Who speaks: processes as the machine's /proc knows them, and the node of the cell that each belongs to.

A pid alone is no identity, since pids are used again; with the start time it is.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

_MAX_ANCESTORS: Final = 64
_PPID, _START = 1, 19  # Fields of /proc/PID/stat, counted behind the command's closing bracket.


class ProcessLike(Protocol):
    """A process of a cell as the cell names it."""

    @property
    def pid(self) -> int:
        """Its pid on the machine."""

    @property
    def start(self) -> int:
        """Its start time in clock ticks since boot."""


class NodeLike(Protocol):
    """A node of a cell as the cell names it."""

    @property
    def init_pid(self) -> int:
        """The machine's pid of the node's first process."""


@dataclass(frozen=True)
class Caller:
    """The process that made a call, on the kernel's word."""

    node: str
    pid: int
    start: int


@dataclass(frozen=True)
class Ancestor:
    """A process above another, up to the machine's first."""

    pid: int
    start: int


class UnknownSenderError(Exception):
    """A sender is gone, or belongs to no node of the cell."""


class OutsiderError(UnknownSenderError):
    """A sender lives outside of the cell: something came in, or got out."""


def start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot, or None if it is gone."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_START])


def ancestors(pid: int) -> list[Ancestor]:
    """Return the chain of parents of a process, nearest first, as far as it can be seen."""
    chain: list[Ancestor] = []
    fields = _stat(pid)
    while fields is not None and len(chain) < _MAX_ANCESTORS:
        parent = int(fields[_PPID])
        fields = _stat(parent) if parent else None
        if fields is not None:
            chain.append(Ancestor(parent, int(fields[_START])))
    return chain


class NodeFinder:
    """Tells the node of a process by its first process, never by an address: nodes share a network."""

    def __init__(self, nodes: Mapping[str, NodeLike]) -> None:
        """Know the nodes of a cell; none at all where processes are not in a cell."""
        self._inits = {node.init_pid: name for name, node in nodes.items()}

    def node_of(self, pid: int, listener: str, uid: int | None = None) -> str:
        """Return the node of a process that spoke at the socket of the node `listener`.

        Args:
            pid: The process.
            listener: The node.
            uid: User of the process when it spoke, where the kernel has named it.

        Raises:
            OutsiderError: The process lives, and does so outside of this cell.
            UnknownSenderError: The process belongs to no node of this cell.
        """
        if not self._inits:
            return listener
        # The chain of parents ends at the init of a process's own pid namespace, and anybody may read it;
        # the namespace itself can be read with privileges only, but also where a runtime put the process there.
        for process in (pid, *(ancestor.pid for ancestor in ancestors(pid))):
            if process in self._inits:
                return self._inits[process]
        namespace = _pid_namespace(pid)
        for init, name in self._inits.items():
            if namespace is not None and namespace == _pid_namespace(init):
                return name
        what = f"process {pid} belongs to no node of the cell"
        # A sender may have ended since and another process have its pid: its user then is none of the cell's.
        if namespace is not None and uid is not None and uid in _users(pid):
            raise OutsiderError(f"{what}, user {uid}")
        raise UnknownSenderError(what)


def _stat(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command's name may hold brackets and blanks: what follows its last bracket cannot.
            return file.read().rpartition(b")")[2].decode().split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _users(pid: int) -> set[int]:
    """The users whose rights a process has."""
    try:
        # A name may contain any bytes, a carriage return too; the kernel escapes none of them but the line feed.
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace", newline="\n") as file:
            return {int(word) for line in file if line.startswith("Uid:") for word in line.split()[1:]}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def _pid_namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
