"""The verifier: determines the result of a trial from outside the cell and from evidence only."""

from redline._callable import make_callable
from redline.verify.trial import Trial, TrialEvent

__all__ = ["Trial", "TrialEvent"]

make_callable(__name__)
