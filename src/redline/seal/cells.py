"""Cells that are made for the seal to be measured on."""

from collections.abc import Iterator
from contextlib import contextmanager

from redline._errors import SealError
from redline._names import one_line
from redline.cell.errors import CellError


@contextmanager
def cells_for_the_seal(runtime: str) -> Iterator[None]:
    """Says of a cell that cannot be had that nothing is proved.

    Args:
        runtime: What makes it.

    Raises:
        SealError: A cell could not be made, or was lost.
    """
    try:
        yield
    except CellError as error:
        reason = f"seal not proved: no cell on {runtime} could be looked at: {one_line(error)}"
        raise SealError(f"{reason}; `redline doctor` tells what {runtime} lacks here") from error
