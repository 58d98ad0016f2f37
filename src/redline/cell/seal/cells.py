"""Cells that are made for the seal to be measured on."""

from collections.abc import Iterator
from contextlib import contextmanager

from redline._errors import SealError, faults_in
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
    except Exception as error:
        fault = faults_in(error)[0]
        if not isinstance(fault, CellError):
            raise fault from None
        reason = f"seal not proved: no cell on {runtime} could be looked at: {one_line(fault)}"
        raise SealError(f"{reason}; `redline doctor` tells what {runtime} lacks here") from fault
