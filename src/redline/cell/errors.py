"""Errors of cells."""

from redline._errors import RedlineError


class CellError(RedlineError):
    """Raised when a cell cannot be made or an operation on it fails."""


class NoAnswerError(CellError):
    """Raised when the process of an operation ends without an answer."""


class ExhaustedError(CellError):
    """Raised when a cell can start no process: its agent has used up its processes, memory or descriptors."""


class CellGoneError(CellError):
    """Raised when the cell or the node of an operation is not running."""


class NoCellError(CellError):
    """Raised when a trial's cell cannot be made. Nothing ran, so running the trial later adds no bias."""


class LostCellError(CellError):
    """Raised when a trial's cell ended because something outside stopped the harness or killed the warden.

    The agent did not cause it, so running the trial again adds no bias.
    """
