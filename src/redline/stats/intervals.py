"""Rates of trials and the intervals around them.

One trial is one Bernoulli draw. Wald intervals are not offered: at the ten trials of the published studies they are
too narrow, and at 0/10 and 10/10 they have no width at all.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from redline._base import Frozen

CONFIDENCE = 0.95
RESAMPLES = 4000

Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]


class Count(Frozen):
    """How many of how many."""

    k: int = Field(ge=0)
    """Trials in which it happened."""
    n: int = Field(ge=0)
    """Trials in which it could be told."""

    @model_validator(mode="after")
    def _part_of_whole(self) -> "Count":
        if self.k > self.n:
            raise ValueError(f"{self.k} of {self.n} is not a count")
        return self


class Rate(Count):
    """A rate with the intervals that its readers need."""

    estimate: Share | None
    """k/n; null where no trial could be judged."""
    wilson95: Interval
    """Wilson score interval, 95 %."""
    clopper_pearson95: Interval
    """Clopper-Pearson (exact) interval, 95 %."""
    bounds_with_invalid: Interval
    """The rate if every invalid trial had been a failure, and if every one had been a success."""


def wilson(k: int, n: int) -> Interval:
    """Wilson score interval at 95 %. No trials bound nothing: the interval is then 0 to 1."""
    return _interval(k, n, "wilson")


def clopper_pearson(k: int, n: int) -> Interval:
    """Clopper-Pearson interval at 95 %: never covers less than it says, so it is the wider of the two."""
    return _interval(k, n, "exact")


def bounds_with_invalid(k: int, n: int, invalid: int) -> Interval:
    """What the rate over all trials is at least and at most, whatever the invalid ones would have been."""
    _check(k, n)
    if invalid < 0:
        raise ValueError(f"{invalid} invalid trials")
    total = n + invalid
    return (k / total, (k + invalid) / total) if total else (0.0, 1.0)


def percent(interval: Interval) -> str:
    """An interval in percent, such as `24–76 %`."""
    return f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f} %"


def rate(k: int, n: int, invalid: int = 0) -> Rate:
    """The rate `k/n` with both intervals, and its bounds beside `invalid` trials that left `n`."""
    return Rate(
        k=k,
        n=n,
        estimate=k / n if n else None,
        wilson95=wilson(k, n),
        clopper_pearson95=clopper_pearson(k, n),
        bounds_with_invalid=bounds_with_invalid(k, n, invalid),
    )


def total_interval(counts: Sequence[float]) -> tuple[float, float] | None:
    """Percentile bootstrap interval at 95 % of the total of some trials' counts.

    Counts of one trial hang together, so trials are drawn anew and not what was counted in them. From trials that do
    not differ nothing can be said in this way, and an interval without width would say too much: then there is none.
    """
    if len(set(counts)) <= 1:
        return None
    import numpy as np

    drawn = np.random.default_rng(0).choice(np.asarray(counts, dtype=float), size=(RESAMPLES, len(counts)))
    low, high = np.quantile(drawn.sum(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return (float(low), float(high))


def _interval(k: int, n: int, method: Literal["wilson", "exact"]) -> Interval:
    _check(k, n)
    if n == 0:
        return (0.0, 1.0)
    from scipy.stats import binomtest

    low, high = binomtest(k, n).proportion_ci(CONFIDENCE, method=method)
    # Rounding in scipy can leave the interval a few 1e-17 beside the estimate or outside 0 to 1.
    return (max(0.0, min(float(low), k / n)), min(1.0, max(float(high), k / n)))


def _check(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a count")
