"""Room for cells: memory of the host, and files that this process may open."""

import resource
from collections.abc import Iterable

import psutil

from redline._bounds import MAX_CELLS
from redline._errors import UsageError
from redline.cell import CellConfig
from redline.run.models import BUSY_PART_OF_HOME

IDLE_PART_OF_HOME = 0.27
"""Memory of a cell whose agent waits for its model, as a fraction of its home: 175 of 640 MiB with 60 cells."""

SPARE_MIB = 1024
"""Memory for the host itself and the harness."""


def allow_open_files() -> None:
    """Raise this process's own limit of open files to what the host allows: every cell needs about ten."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
    home = _home_mib(shapes)
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


def busy_mib(shapes: Iterable[CellConfig]) -> float:
    """Return the memory of the largest cell while it is busy, in MiB."""
    return BUSY_PART_OF_HOME * _home_mib(shapes)


def max_idle_cells(shapes: Iterable[CellConfig], bound: int | None = None, available_mib: int | None = None) -> int:
    """Return how many cells fit in the host's memory while all of them wait for their models.

    Args:
        shapes: Shapes of the run's cells.
        bound: Maximum for the models' servers; None if no server reports one.
        available_mib: Available memory in MiB; None uses the host's.
    """
    if available_mib is None:
        available_mib = psutil.virtual_memory().available >> 20
    idle = max(1.0, IDLE_PART_OF_HOME * _home_mib(shapes))
    fit = max(1, int((available_mib - SPARE_MIB) / idle))
    return min(fit, MAX_CELLS if bound is None else bound)


def _home_mib(shapes: Iterable[CellConfig]) -> int:
    """Return the memory for files of the largest cell, in MiB."""
    return max((shape.home_mib * len(shape.nodes) for shape in shapes), default=0)
