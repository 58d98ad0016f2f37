"""What can go wrong with a cell."""

from redline._errors import RedlineError


class CellError(RedlineError):
    """A cell could not be made, or an operation on it failed."""


class NoAnswerError(CellError):
    """What was to carry out an operation ended without an answer."""


class ExhaustedError(CellError):
    """The cell can start nothing more: its agent has used up its processes, memory or descriptors."""


class CellGoneError(CellError):
    """The cell, or the node that was asked, is not running."""


class NoCellError(CellError):
    """A trial's cell could not be made. Nothing ran, so the trial is run later without bias."""


class LostCellError(CellError):
    """A trial's cell ended because something outside stopped the harness or killed the warden.

    Nothing that the agent did caused it, so the trial is run again without bias.
    """
