"""Base of the census program: bounded reads of /proc, and names that every other part uses."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # Provided by the process that runs this program.

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder without following a link and without blocking."""

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yield (node, pid) of every process of the cell; inside a cell, its observers are included."""

    def join_namespace(fd: int, kind: int) -> None:
        """Enter a namespace."""


CHUNK = 2**20

Id = tuple[int, int]  # device and inode


class Mount:
    """A writable mount of a node."""

    def __init__(self, node: str, path: str, kind: str, fd: int) -> None:
        """Store the mount and the descriptor of its folder."""
        self.node, self.path, self.kind, self.fd = node, path, kind, fd


def read_text(path: str, limit: int = 2**20) -> str:
    """Return the start of a file of /proc or /sys, empty if it does not exist or cannot be read.

    Callers must split it at line feeds only. `splitlines` also splits at eight other characters, which a name that the
    agent chose can contain.
    """
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def printable(text: str, limit: int) -> str:
    """Return text truncated to `limit` characters, without surrogates, which not every JSON parser accepts."""
    return text[:limit].encode("utf-8", "replace").decode()


def stat_fields(proc: str, pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` after the name: state, parent, group, session, …, start time (20th)."""
    text = read_text(f"{proc}/{pid}/stat", 4096)
    return text.rpartition(")")[2].split()


def is_gvisor(proc: str) -> bool:
    """Return whether the kernel is gVisor's. No process of the cell can change its /proc."""
    return os.path.exists(proc + "/sentry-meminfo")


def is_observer(proc: str, pid: int) -> bool:
    """Return whether a process is this one, the attendant that started it, or another child of the attendant.

    Only a process itself creates its children, so no process of the agent is a child of the attendant.
    """
    attendant = os.getppid()
    return pid in (os.getpid(), attendant) or stat_fields(proc, pid)[1:2] == [str(attendant)]


def processes_without_observers(request: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (node, pid) of every process of the cell, without those by which the harness observes it."""
    for node, pid in cell_processes(request["inits"]):
        if not (request["inside"] and is_observer(request["proc"], pid)):
            yield node, pid


def os_path(link: str) -> str:
    """Return the target of a link of /proc, empty if it cannot be read."""
    try:
        return os.readlink(link)
    except OSError:
        return ""
