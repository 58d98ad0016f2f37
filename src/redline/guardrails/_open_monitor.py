"""Attach a monitor of file accesses to a cell, where the host's kernel supports it."""

import os
from collections.abc import Sequence

from redline.cell import Cell, ProcessRef
from redline.guardrails._fanotify import FileAccess, OpenMonitor

OPENED, READ = 0.7, 0.9
"""Scores. A process can map an opened file and read it without a further event."""


class OpenMonitorHandle:
    """A monitor that is closed at the latest with its cell."""

    def __init__(self, monitor: OpenMonitor) -> None:
        """Store the monitor."""
        self.monitor = monitor

    async def aclose(self) -> None:
        """Stop watching."""
        self.monitor.close()


def attach_monitor(
    cell: Cell, files: Sequence[int], known: Sequence[ProcessRef], handle: type[OpenMonitorHandle]
) -> OpenMonitor | None:
    """Watch files of a cell if the harness is root, the cell can be observed from outside, and the kernel permits it.

    Args:
        cell: The cell.
        files: Descriptors of the files.
        known: Processes whose accesses are not reported.
        handle: Class under which the monitor is attached to the cell; a different one for each guardrail.

    Returns:
        The monitor; None if the files cannot be watched.
    """
    if cell.observer != "outside" or os.geteuid() != 0:
        return None
    try:
        monitor = OpenMonitor(cell, files, known)
    except OSError:
        return None
    cell.attach(handle(monitor))
    return monitor


def score_of(access: FileAccess) -> float:
    """Return the score of an access."""
    return READ if access.read else OPENED


def description_of(access: FileAccess) -> str:
    """Return a description of an access for the log."""
    name = access.name or "a process that has ended"
    return f"{name} ({access.pid}) {'read' if access.read else 'opened'} it"
