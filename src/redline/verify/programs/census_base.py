"""Base of the census program: bounded reads of /proc, and names that every other part uses."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # Provided by the process that runs this program.

    """Open a path below a folder, through no link and never to wait."""

    """Yield (node, pid) of every process of the cell; where this runs inside, of those that watch it, too."""

    def join_namespace(fd: int, kind: int) -> None:
        """Enter a namespace."""


CHUNK = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")

Id = tuple[int, int]  # device and inode


class OutOfBounds(Exception):
    """A bound on time or amount was reached."""


class Mount:
    """A writable mount of a node."""

    def __init__(self, node: str, path: str, kind: str, fd: int) -> None:
        """Name the mount and its open folder."""
        self.node, self.path, self.kind, self.fd = node, path, kind, fd


def read_text(path: str, limit: int = 2**20) -> str:
    """Return the start of a file of /proc or /sys, empty where there is none or it may not be read.

    Its lines end at line feeds alone. `splitlines` would also split at the eight other characters that a name of the
    agent's choice can contain.
    """
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def shown(text: str, limit: int) -> str:
    """Return text for a reply: cut, and in characters that any JSON carries."""
    return text[:limit].encode("utf-8", "replace").decode()


def stat_fields(proc: str, pid: int) -> list[str]:
    """Return the fields of a process's stat behind its name: state, parent, group, session, …, start time as 20th."""
    text = read_text(f"{proc}/{pid}/stat", 4096)
    return text.rpartition(")")[2].split()


def is_gvisor(proc: str) -> bool:
    """Whether the kernel is gVisor's, whose /proc no process of the cell can change."""
    return os.path.exists(proc + "/sentry-meminfo")


def is_watcher(proc: str, pid: int) -> bool:
    """Whether a process is this one, the attendant that started it, or another program of the attendant's.

    Only a process itself makes children, so nothing of the agent's is ever among those of the attendant.
    """
    attendant = os.getppid()
    return pid in (os.getpid(), attendant) or stat_fields(proc, pid)[1:2] == [str(attendant)]


def processes_without_watchers(request: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (node, pid) of every process of the cell, those aside by which the harness sees it."""
    for node, pid in cell_processes(request["inits"]):
        if not (request["inside"] and is_watcher(request["proc"], pid)):
            yield node, pid


def os_path(link: str) -> str:
    """Return where a link of /proc points, empty where it cannot be read."""
    try:
        return os.readlink(link)
    except OSError:
        return ""
