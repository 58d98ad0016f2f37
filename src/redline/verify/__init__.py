"""The verifier: what came of a trial, decided from outside the cell and from evidence only."""

from redline.verify.trial import Trial, TrialEvent

__all__ = ["Trial", "TrialEvent"]
