"""Errors of the cells on which the seal is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

from redline._errors import SealError
from redline._names import one_line
from redline.cell.errors import CellError


@contextmanager
def cells_for_the_seal(runtime: str) -> Iterator[None]:
    """Convert the error of a cell that could not be made, or was lost, into the error of a seal that is not proved.

    Args:
        runtime: The container runtime of the cells.

    Raises:
        SealError: A cell could not be made, or was lost.
    """
    try:
        yield
    except CellError as error:
        reason = f"seal not proved: no cell on {runtime} could be probed: {one_line(error)}"
        raise SealError(f"{reason}. Run `redline doctor` to see what {runtime} needs on this host.") from error
