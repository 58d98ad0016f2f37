"""Whether the host's memory bears as many cells as the user asks for."""

from collections.abc import Iterable

import psutil

from redline._errors import UsageError
from redline.cell import CellConfig
from redline.run.models import BUSY_PART_OF_HOME

IDLE_PART_OF_HOME = 0.27
"""What a cell takes whose agent waits for its model: measured with 60 at once, 175 MiB of a home of 640 MiB."""

SPARE_MIB = 1024
"""What the host itself and the harness need beside the cells."""


def check_room(cells: int, shapes: Iterable[CellConfig], available_mib: int | None = None) -> str | None:
    """Check a number of cells against the memory that is available.

    Args:
        cells: Cells at once, as the user asks for them.
        shapes: The shapes of the run's cells.
        available_mib: Available memory; by default the host's.

    Returns:
        What to warn of where the memory suffices only as long as most cells wait for their models; else None.

    Raises:
        UsageError: It does not even suffice for cells that do nothing but wait.
    """
    home = max((shape.home_mib * len(shape.nodes) for shape in shapes), default=0)
    if available_mib is None:
        available_mib = psutil.virtual_memory().available >> 20
    room = available_mib - SPARE_MIB
    if cells > 1 and cells * home * IDLE_PART_OF_HOME > room:
        least = home * IDLE_PART_OF_HOME
        raise UsageError(
            f"--cells {cells}: a cell takes at least {least:.0f} MiB here, and {available_mib} MiB are available: "
            f"give --cells {max(1, int(room / least))} or fewer"
        )
    if cells * home * BUSY_PART_OF_HOME > room:
        busy = cells * home * BUSY_PART_OF_HOME
        return f"--cells {cells}: if all work at once, they may take {busy:.0f} MiB; {available_mib} MiB are available"
    return None
