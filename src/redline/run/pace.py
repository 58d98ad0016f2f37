"""Pace of an earlier run: the duration of its trials, and how many of them ran concurrently."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

BREAK_SECONDS = 60.0
"""A longer interval without any trial is a pause between stop and resumption, and does not count as run time."""


@dataclass(frozen=True)
class Span:
    """Start and end of a trial."""

    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return max(0.0, (self.ended - self.began).total_seconds())


@dataclass(frozen=True)
class Pace:
    """Pace of a run."""

    trials: int
    """Number of trials."""
    seconds: float
    """Mean wall time of a trial, in seconds."""
    wall_seconds: float
    """Time in which trials ran, without pauses, in seconds."""

    @classmethod
    def of(cls, spans: Iterable[Span]) -> "Pace":
        """Compute the pace of one or more trials."""
        ordered = sorted(spans, key=lambda span: span.began)
        wall, began, ended = 0.0, ordered[0].began, ordered[0].ended
        for span in ordered[1:]:
            if (span.began - ended).total_seconds() > BREAK_SECONDS:
                wall += Span(began, ended).seconds
                began = span.began
            ended = max(ended, span.ended)
        wall += Span(began, ended).seconds
        return cls(len(ordered), sum(span.seconds for span in ordered) / len(ordered), wall)

    @property
    def concurrency(self) -> float:
        """Mean number of concurrent trials over the run."""
        return self.trials * self.seconds / self.wall_seconds if self.wall_seconds else 1.0

    def seconds_for(self, trials: int, cells: int) -> float:
        """Estimate the duration of a number of trials at this pace, in seconds.

        With a server that answers one call at a time, trials take longer the more of them run concurrently. So the
        estimate uses the concurrency that the run reached: more cells than that are assumed not to help, and fewer
        cells are assumed to slow the run down.
        """
        return trials * self.wall_seconds / self.trials * max(1.0, self.concurrency / cells)
