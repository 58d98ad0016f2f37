"""Identity of processes in the host's /proc, and the node of the cell that each belongs to.

Pids are reused, so a process is identified by its pid together with its start time.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from redline.cell.programs.prelude import stat_fields

_MAX_ANCESTORS: Final = 64
_PPID, _START = 1, 19  # Fields of /proc/PID/stat, counted after the closing bracket of the command.


class ProcessLike(Protocol):
    """A process of a cell, as the cell describes it."""

    @property
    def pid(self) -> int:
        """Its pid on the host."""

    @property
    def start(self) -> int:
        """Its start time in clock ticks since boot."""


class NodeLike(Protocol):
    """A node of a cell, as the cell describes it."""

    @property
    def init_pid(self) -> int:
        """The pid of the node's first process on the host."""


@dataclass(frozen=True)
class Caller:
    """The process that made a call, as the kernel identifies it."""

    node: str
    pid: int
    start: int


@dataclass(frozen=True)
class Ancestor:
    """A parent, direct or indirect, of a process."""

    pid: int
    start: int


class UnknownSenderError(Exception):
    """Raised when a sender has ended or belongs to no node of the cell."""


class OutsiderError(UnknownSenderError):
    """Raised when a sender runs outside the cell, so that something crossed the cell's boundary."""


def ancestors(pid: int) -> list[Ancestor]:
    """Return the visible chain of parents of a process, nearest first."""
    chain: list[Ancestor] = []
    fields = stat_fields(pid)
    while fields and len(chain) < _MAX_ANCESTORS:
        parent = int(fields[_PPID])
        fields = stat_fields(parent) if parent else []
        if fields:
            chain.append(Ancestor(parent, int(fields[_START])))
    return chain


class NodeFinder:
    """Find the node of a process by the node's first process. Addresses are no use, since nodes share a network."""

    def __init__(self, nodes: Mapping[str, NodeLike]) -> None:
        """Store the first process of each node; `nodes` is empty if processes are not in a cell."""
        self._inits = {node.init_pid: name for name, node in nodes.items()}
        # A first process that is ending has no namespace any more, while the processes of its node still run.
        spaces = {_pid_namespace(init): name for init, name in self._inits.items()}
        self._namespaces = {space: name for space, name in spaces.items() if space is not None}

    def node_of(self, pid: int, listener: str, uid: int | None = None) -> str:
        """Return the node of a process that sent something to the socket of the node `listener`.

        Args:
            pid: The process.
            listener: The node.
            uid: User of the process when it sent, if the kernel reported it.

        Raises:
            OutsiderError: The process is alive and outside this cell.
            UnknownSenderError: The process belongs to no node of this cell.
        """
        if not self._inits:
            return listener
        # The chain of parents can be read without privileges and ends at the first process of the pid namespace.
        # The namespace itself needs privileges, but also covers processes that a runtime placed in it.
        for process in (pid, *(ancestor.pid for ancestor in ancestors(pid))):
            if process in self._inits:
                return self._inits[process]
        namespace = _pid_namespace(pid)
        if namespace in self._namespaces:
            return self._namespaces[namespace]
        what = f"process {pid} belongs to no node of the cell"
        # If the sender has ended and its pid was reused, the user of the new process differs from the cell's.
        if namespace is not None and uid is not None and uid in _users(pid):
            raise OutsiderError(f"{what}, user {uid}")
        raise UnknownSenderError(what)


def _users(pid: int) -> set[int]:
    """Return the real, effective, saved and file system user ids of a process."""
    try:
        # The name can contain any byte, including a carriage return; the kernel escapes only the line feed.
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace", newline="\n") as file:
            return {int(word) for line in file if line.startswith("Uid:") for word in line.split()[1:]}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def _pid_namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
