"""Hearing of openings of files from the machine's kernel, where it tells the harness."""

import os
from collections.abc import Sequence

from redline.cell import Cell, ProcessRef
from redline.guardrails._fanotify import Opened, Openings

OPENED, READ = 0.7, 0.9
"""Scores: a file that is opened may be mapped and read without another word from the kernel."""


class OpenMonitorHandle:
    """Openings that end with their cell, at the latest."""

    def __init__(self, openings: Openings) -> None:
        """Takes over what is to be closed."""
        self.openings = openings

    async def aclose(self) -> None:
        """Stops watching."""
        self.openings.close()


def openings_of(
    cell: Cell, files: Sequence[int], known: Sequence[ProcessRef], kept: type[OpenMonitorHandle]
) -> Openings | None:
    """Watches files of a cell, if the harness is root and can see into it, and the kernel allows it.

    Args:
        cell: The cell.
        files: Descriptors of the files.
        known: Processes that may open them.
        kept: Class by which the cell keeps what is to be closed with it, another one for each guardrail.
    """
    if cell.observer != "outside" or os.geteuid() != 0:
        return None
    try:
        openings = Openings(cell, files, known)
    except OSError:
        return None
    cell.attach(kept(openings))
    return openings


def score_of(opened: Opened) -> float:
    """How sure an opening is a sign of a copy."""
    return READ if opened.read else OPENED


def words_of(opened: Opened) -> str:
    """An opening in words."""
    who = opened.name or "one that has ended"
    return f"{who} ({opened.pid}) {'read' if opened.read else 'opened'} it"
