"""The verifier: determines the result of a trial from outside the cell and from evidence only."""

from redline.verify.trial import Trial, TrialEvent

__all__ = ["Trial", "TrialEvent"]
