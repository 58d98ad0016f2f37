"""Check that the host has enough memory for the requested number of cells."""

from collections.abc import Iterable

import psutil

from redline._errors import UsageError
from redline.cell import CellConfig
from redline.run.models import BUSY_PART_OF_HOME

IDLE_PART_OF_HOME = 0.27
"""Memory of a cell whose agent waits for its model, as a fraction of its home: 175 of 640 MiB with 60 cells."""

SPARE_MIB = 1024
"""Memory for the host itself and the harness."""


def check_room(cells: int, shapes: Iterable[CellConfig], available_mib: int | None = None) -> str | None:
    """Check a number of cells against the available memory.

    Args:
        cells: Number of concurrent cells that the user requests.
        shapes: Shapes of the run's cells.
        available_mib: Available memory in MiB; None uses the host's.

    Returns:
        A warning if the memory is sufficient only while most cells wait for their models; otherwise None.

    Raises:
        UsageError: The memory is not sufficient even for waiting cells.
    """
    home = max((shape.home_mib * len(shape.nodes) for shape in shapes), default=0)
    if available_mib is None:
        available_mib = psutil.virtual_memory().available >> 20
    room = available_mib - SPARE_MIB
    if cells > 1 and cells * home * IDLE_PART_OF_HOME > room:
        least = home * IDLE_PART_OF_HOME
        raise UsageError(
            f"--cells {cells}: a cell needs at least {least:.0f} MiB here, and {available_mib} MiB are available: "
            f"use --cells {max(1, int(room / least))} or fewer"
        )
    if cells * home * BUSY_PART_OF_HOME > room:
        busy = cells * home * BUSY_PART_OF_HOME
        return f"--cells {cells}: busy cells can need {busy:.0f} MiB in total; {available_mib} MiB are available"
    return None
