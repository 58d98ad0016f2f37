"""The cell of the sample that runs; any other sandbox of Inspect's is refused."""

from inspect_ai.util import sandbox

from redline._errors import UsageError
from redline.cell import Cell
from redline.cell.provider import CellEnvironment


def cell_of_sample() -> Cell:
    """The cell in which the sample runs.

    Raises:
        UsageError: It runs in some other sandbox, or in none.
    """
    try:
        return sandbox().as_type(CellEnvironment).cell
    except (TypeError, LookupError) as error:
        raise UsageError("this sandbox is not sealed: use --sandbox cell, or leave the option out") from error
