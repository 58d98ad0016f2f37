"""The nodes of a cell and their processes, as the observer of the cell sees them."""

import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessRef:
    """A process by its pid and start time, which together are never reused."""

    pid: int
    start: int
    node: str


@dataclass(frozen=True)
class Node:
    """One running node of a cell."""

    name: str
    init: ProcessRef
    """The first process, as the observer of the cell sees it."""

    outside: ProcessRef | None
    """The first process, as the host sees it; None if a Docker engine runs it on another host."""

    tether_dir: Path
    """The folder outside in which the tether's socket is bound."""

    control: socket.socket

    @property
    def init_pid(self) -> int:
        """Pid of the node's first process on the host; 0 if it runs on another host."""
        return self.outside.pid if self.outside else 0
