"""The cell of the running sample; any other Inspect sandbox is refused."""

from inspect_ai.util import sandbox

from redline._errors import UsageError
from redline.cell import Cell
from redline.cell.provider import CellEnvironment


def cell_of_sample() -> Cell:
    """Return the cell in which the sample runs.

    Raises:
        UsageError: The sample runs in another sandbox, or in none.
    """
    try:
        return sandbox().as_type(CellEnvironment).cell
    except (TypeError, LookupError) as error:
        raise UsageError("this sandbox is not sealed: use --sandbox cell, or leave the option out") from error
