"""How fast an earlier run went: what its trials took, and how many of them truly ran at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

BREAK_SECONDS = 60.0
"""Where no trial ran for longer than this, the run was stopped and resumed; that time is not a part of it."""


@dataclass(frozen=True)
class Span:
    """When a trial ran."""

    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, (self.ended - self.began).total_seconds())


@dataclass(frozen=True)
class Pace:
    """The pace of a run."""

    trials: int
    """Trials."""
    seconds: float
    """Mean wall time of a trial."""
    wall_seconds: float
    """Time in which trials ran, without breaks."""

    @classmethod
    def of(cls, spans: Iterable[Span]) -> "Pace":
        """Measure the pace of trials, of which there is one at least."""
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
    def at_once(self) -> float:
        """How many trials ran at once, on average over the run."""
        return self.trials * self.seconds / self.wall_seconds if self.wall_seconds else 1.0

    def seconds_for(self, trials: int, cells: int) -> float:
        """How long so many trials would take at this pace.

        A server that answers one call at a time makes each trial longer the more of them run at once. So what a run
        reached is what counts, not what its cells could: more cells than it kept busy are not taken to help, and fewer
        cells are taken to slow it down.
        """
        return trials * self.wall_seconds / self.trials * max(1.0, self.at_once / cells)
