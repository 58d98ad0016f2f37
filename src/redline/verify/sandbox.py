"""The cell of the running sample; any other Inspect sandbox is refused."""

from inspect_ai.util import sandbox

from redline._errors import UsageError
from redline.cell import Cell
from redline.cell.provider import CellEnvironment


def has_sandbox() -> bool:
    """Whether the sample is running; a log that is scored again has no sandbox."""
    try:
        sandbox()
    except ProcessLookupError:  # Inspect's error for a sample without a sandbox
        return False
    return True


def cell_of_sample() -> Cell:
    """Return the cell in which the sample runs.

    Raises:
        UsageError: The sample runs in another sandbox, or in none.
    """
    try:
        return sandbox().as_type(CellEnvironment).cell
    except (TypeError, LookupError, ProcessLookupError) as error:
        raise UsageError("this sandbox is not sealed: use --sandbox cell, or leave the option out") from error
