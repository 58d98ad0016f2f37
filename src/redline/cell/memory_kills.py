"""Processes of a cell that the kernel ended because the host ran out of memory, which is no act of the agent.

Above a cell, a container or a service may have a limit of its own; reaching that one counts as the host's lack, too.
"""

from contextlib import suppress
from pathlib import Path

from redline.cell.cell import Cell
from redline.cell.footprint import memory_cgroup


class MemoryKills:
    """Counts the kills in the nodes of one cell."""

    def __init__(self, cell: Cell) -> None:
        """Find the nodes' cgroups; without them, as for most users other than root, no kill is known."""
        outside = [node.outside for node in cell.nodes.values() if node.outside is not None]
        self._folders = [folder for first in outside if (folder := memory_cgroup(first.pid)) is not None]

    def by_host(self) -> int:
        """Return how many processes were ended although their node had not reached its own limit."""
        return sum(map(kills_by_host, self._folders))


def kills_by_host(folder: Path) -> int:
    """Return the kills in a cgroup that never reached its own limit; 0 if it did, or if the kernel reports nothing.

    Args:
        folder: Folder of the cgroup, of either version.
    """
    v2 = _figures(folder / "memory.events")
    if v2:
        return v2.get("oom_kill", 0) if not v2.get("oom") else 0
    never_reached = _lines(folder / "memory.failcnt")[:1] == ["0"]
    v1 = _figures(folder / "memory.oom_control")
    return v1.get("oom_kill", 0) if never_reached else 0


def _figures(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, *numbers in map(str.split, filter(str.strip, _lines(path))):
        with suppress(ValueError):
            found[name] = sum(map(int, numbers))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split("\n")
    except OSError:
        return []
