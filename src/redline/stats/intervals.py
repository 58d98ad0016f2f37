"""Rates of trials and their confidence intervals.

Each trial is one Bernoulli sample. Wald intervals are not provided: with the ten trials of the published studies they
are too narrow, and at 0/10 and 10/10 they have no width at all.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Annotated

from pydantic import Field, model_validator

from redline._base import Frozen
from redline.stats.binomial import exact_upper_bound

CONFIDENCE = 0.95
RESAMPLES = 4000

Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]


class Count(Frozen):
    """Number of events k in n trials."""

    k: int = Field(ge=0)
    """Trials with the event."""
    n: int = Field(ge=0)
    """Trials in which it is known whether the event occurred."""

    @model_validator(mode="after")
    def _part_of_whole(self) -> "Count":
        if self.k > self.n:
            raise ValueError(f"{self.k} of {self.n} is not a count")
        return self


class Rate(Count):
    """A rate with its confidence intervals."""

    estimate: Share | None
    """k/n; null if n is 0."""
    wilson95: Interval
    """95% Wilson score interval."""
    clopper_pearson95: Interval
    """95% Clopper-Pearson (exact) interval."""
    bounds_with_invalid: Interval
    """The rate if every invalid trial were a failure, and if every one were a success."""


def wilson(k: int, n: int) -> Interval:
    """Return the 95% Wilson score interval; 0 to 1 without trials."""
    _check(k, n)
    if n == 0:
        return (0.0, 1.0)
    z = _quantile()
    centre = (k + z**2 / 2) / (n + z**2)
    margin = z * math.sqrt(k * (n - k) / n + z**2 / 4) / (n + z**2)
    return _containing(k / n, centre - margin, centre + margin)


def clopper_pearson(k: int, n: int) -> Interval:
    """Return the 95% Clopper-Pearson interval, whose coverage is never below 95%, so that it is wider than Wilson's."""
    _check(k, n)
    if n == 0:
        return (0.0, 1.0)
    alpha = (1 - CONFIDENCE) / 2
    return _containing(k / n, 1 - exact_upper_bound(n - k, n, alpha), exact_upper_bound(k, n, alpha))


def agresti_coull_error(k: int, n: int) -> float:
    """Return the standard error of a rate with two events and two non-events added, roughly; NaN without trials.

    Agresti and Coull 1998 (The American Statistician 52:119): the error at the centre of Wilson's interval. Unlike
    Wald's, it is not zero at 0 of n and n of n.
    """
    _check(k, n)
    if n == 0:
        return math.nan
    z = _quantile()
    centre = (k + z**2 / 2) / (n + z**2)
    return math.sqrt(centre * (1 - centre) / (n + z**2))


def bounds_with_invalid(k: int, n: int, invalid: int) -> Interval:
    """Return the minimum and maximum of the rate over all trials, whatever the outcomes of the invalid ones."""
    _check(k, n)
    if invalid < 0:
        raise ValueError(f"{invalid} invalid trials")
    total = n + invalid
    return (k / total, (k + invalid) / total) if total else (0.0, 1.0)


def percent(interval: Interval) -> str:
    """Format an interval in percent, such as `24–76%`."""
    return "–".join(percent_ends(interval)) + "%"


def percent_ends(interval: Interval) -> tuple[str, str]:
    """Format both ends of an interval in percent, with as many decimals, up to two, as they need to differ.

    An interval such as 0–0% would state certainty.
    """
    low, high = (_percentage(end, 0) for end in interval)
    for decimals in (1, 2):
        if float(low) == float(high):
            low, high = (_percentage(end, decimals) for end in interval)
    return low, high


def _percentage(part: float, decimals: int) -> str:
    return f"{100 * part:.0f}" if part in {0, 1} else f"{100 * part:.{decimals}f}"


def rate(k: int, n: int, invalid: int = 0) -> Rate:
    """Return the rate `k/n` with both intervals, and its bounds with `invalid` trials, which are not in `n`."""
    return Rate(
        k=k,
        n=n,
        estimate=k / n if n else None,
        wilson95=wilson(k, n),
        clopper_pearson95=clopper_pearson(k, n),
        bounds_with_invalid=bounds_with_invalid(k, n, invalid),
    )


def total_interval(counts: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% percentile bootstrap interval of the total of some trials' counts.

    Counts within one trial are correlated, so the bootstrap resamples trials. If all trials are equal, the interval
    would have no width, which claims too much; then the result is None.
    """
    if len(set(counts)) <= 1:
        return None
    import numpy as np

    resampled = np.random.default_rng(0).choice(np.asarray(counts, dtype=float), size=(RESAMPLES, len(counts)))
    low, high = np.quantile(resampled.sum(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return (float(low), float(high))


def _quantile() -> float:
    """Return the normal quantile of a two-sided 95% interval, 1.96."""
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def _containing(estimate: float, low: float, high: float) -> Interval:
    """Return the interval; rounding can place it a few 1e-17 off the estimate or outside 0 to 1."""
    return (max(0.0, min(low, estimate)), min(1.0, max(high, estimate)))


def _check(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a count")
