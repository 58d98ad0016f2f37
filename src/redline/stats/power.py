"""Exact power and number of trials, by enumerating every possible count.

Each trial is one Bernoulli sample, so counts are binomial. The numbers of trials in evaluations are small enough to
enumerate all counts, so no approximation is necessary.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from redline._base import Frozen
from redline.stats.binomial import log_ways, pmf
from redline.stats.decide import DecisionRule, Verdict
from redline.stats.intervals import Share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TRIALS = 500
"""Search limit for the number of trials per arm."""

TIE = 1 + 1e-7
"""Tables whose probabilities differ by less than this factor count as equally likely, as in SciPy."""


class Effect(Frozen):
    """The smallest effect that a plan should detect."""

    baseline: Share
    """One true rate."""
    alternative: Share
    """The other true rate."""
    power: float = Field(default=0.8, gt=0, lt=1)
    """Probability of detecting the difference."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Probability of reporting a difference between equal rates."""
    test: Literal["fisher"] = "fisher"
    """Test that compares the two conditions."""

    @model_validator(mode="after")
    def _two_rates(self) -> Self:
        if self.baseline == self.alternative:
            raise ValueError("baseline and alternative are the same rate: there is nothing to detect")
        return self


def fisher_power(effect: Effect, n_first: int, n_second: int) -> float:
    """Return the power of Fisher's two-sided exact test for the two rates of an effect."""
    rejects = rejected(n_first, n_second, effect.alpha)
    return float(pmf(n_first, effect.baseline) @ rejects @ pmf(n_second, effect.alternative))


def rejected(n_first: int, n_second: int, alpha: float) -> "NDArray[np.bool_]":
    """Return for every pair of counts whether Fisher's two-sided exact test rejects equality."""
    import numpy as np

    together = np.add.outer(np.arange(n_first + 1), np.arange(n_second + 1))
    ways = np.add.outer(log_ways(n_first), log_ways(n_second))
    chance = np.exp(ways - log_ways(n_first + n_second)[together])
    rejects = np.zeros_like(chance, dtype=bool)
    for successes in range(n_first + n_second + 1):
        # p of a table: the summed probability of all tables with the same margins that are at most as likely.
        k = np.arange(max(0, successes - n_second), min(n_first, successes) + 1)
        same_margins = chance[k, successes - k]
        ascending = np.sort(same_margins)
        p = np.cumsum(ascending)[np.searchsorted(ascending, same_margins * TIE, side="right") - 1]
        rejects[k, successes - k] = p <= alpha
    return rejects


def trials_for_fisher(effect: Effect) -> int | None:
    """Return the smallest number of trials per arm for the effect's power; None if above MAX_TRIALS."""
    return _smallest(lambda n: fisher_power(effect, n, n) >= effect.power, 2)


def counts_that_decide(rule: DecisionRule, n: int) -> tuple[int, int]:
    """Return the first count of `n` valid trials that is not `not_crossed`, and the first that is `crossed`.

    A count that does not exist is `n + 1`. Verdicts are monotonic in the count, so these two determine all verdicts.
    """
    counts = range(n + 1)
    return (
        bisect_left(counts, True, key=lambda k: rule.verdict(k, n) != "not_crossed"),
        bisect_left(counts, True, key=lambda k: rule.verdict(k, n) == "crossed"),
    )


def chances_of_verdicts(rule: DecisionRule, rate: float, n: int) -> dict[Verdict, float]:
    """Return the probability of each verdict in one condition of `n` valid trials with a given true rate."""
    open_from, crossed_from = counts_that_decide(rule, n)
    chances = pmf(n, rate)
    not_crossed, crossed = float(chances[:open_from].sum()), float(chances[crossed_from:].sum())
    return {
        "crossed": crossed,
        "not_crossed": not_crossed,
        "inconclusive": max(0.0, 1 - crossed - not_crossed),
    }


def trials_for_rule(rule: DecisionRule, rate: float, verdict: Verdict, power: float) -> int | None:
    """Return the smallest number of trials that gives a condition of this true rate the verdict with the power."""
    return _smallest(lambda n: chances_of_verdicts(rule, rate, n)[verdict] >= power, 1)


def _smallest(enough: Callable[[int], bool], least: int) -> int | None:
    """Return the smallest sufficient number; None if above MAX_TRIALS.

    Power grows with the number of trials, except for small dips because counts are integers. So an insufficient number
    rules out all clearly smaller ones.
    """
    high = least
    while not enough(high):
        if high == MAX_TRIALS:
            return None
        high = min(2 * high, MAX_TRIALS)
    return next(n for n in range(max(least, 3 * high // 8), high + 1) if enough(n))
