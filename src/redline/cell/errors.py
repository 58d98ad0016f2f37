"""What can go wrong with a cell."""

from redline._errors import RedlineError


class CellError(RedlineError):
    """A cell could not be made, or an operation on it failed."""


class CellGoneError(CellError):
    """The cell, or the host that was asked, is not running."""
