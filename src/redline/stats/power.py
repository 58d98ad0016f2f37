"""How many trials a question needs: exact, by enumerating every count that could come out.

One trial is one Bernoulli draw, so the chance of each count is binomial, and at the numbers of trials that evaluations
can pay for they can all be gone through; no approximation is needed.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from redline._base import Frozen
from redline.stats.decide import DecisionRule, Verdict
from redline.stats.intervals import Share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TRIALS = 500
"""Trials of an arm up to which is looked for enough."""

TIE = 1 + 1e-7
"""Tables count as equally unlikely within this factor, as scipy has it."""


class Effect(Frozen):
    """The smallest effect that a plan is to see."""

    baseline: Share
    """One true rate."""
    alternative: Share
    """The other true rate."""
    power: float = Field(default=0.8, gt=0, lt=1)
    """Chance with which they are to be told apart."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Chance of telling apart what is the same."""
    test: Literal["fisher"] = "fisher"
    """The test between two conditions."""

    @model_validator(mode="after")
    def _two_rates(self) -> Self:
        if self.baseline == self.alternative:
            raise ValueError("baseline and alternative are the same rate: there is nothing to see")
        return self


def fisher_power(effect: Effect, n_first: int, n_second: int) -> float:
    """The chance that Fisher's exact test, two-sided, tells the two rates of an effect apart."""
    chances = _chances(n_first, effect.baseline), _chances(n_second, effect.alternative)
    return float(chances[0] @ rejected(n_first, n_second, effect.alpha) @ chances[1])


def rejected(n_first: int, n_second: int, alpha: float) -> "NDArray[np.bool_]":
    """For every pair of counts, whether Fisher's exact test, two-sided, tells them apart."""
    import numpy as np
    from scipy.special import gammaln

    def ways(n: int, k: "NDArray[np.int_]") -> "NDArray[np.float64]":
        return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))

    first, second = np.arange(n_first + 1), np.arange(n_second + 1)
    together = np.add.outer(first, second)
    chance = np.exp(np.add.outer(ways(n_first, first), ways(n_second, second)) - ways(n_first + n_second, together))
    apart = np.zeros_like(chance, dtype=bool)
    for successes in range(n_first + n_second + 1):
        # The tables with these margins, and for each how likely it and those less likely are together.
        k = np.arange(max(0, successes - n_second), min(n_first, successes) + 1)
        theirs = chance[k, successes - k]
        ascending = np.sort(theirs)
        p = np.cumsum(ascending)[np.searchsorted(ascending, theirs * TIE, side="right") - 1]
        apart[k, successes - k] = p <= alpha
    return apart


def trials_for_fisher(effect: Effect) -> int | None:
    """The smallest number of trials an arm with which Fisher's test has the power; None if more than MAX_TRIALS."""
    return _smallest(lambda n: fisher_power(effect, n, n) >= effect.power, 2)


def counts_that_decide(rule: DecisionRule, n: int) -> tuple[int, int]:
    """The first count of `n` valid trials that is not `not_crossed`, and the first that is `crossed`.

    Either is `n + 1` where no count is. More successes never speak against crossing, so that these two say all.
    """
    counts = range(n + 1)
    return (
        bisect_left(counts, True, key=lambda k: rule.verdict(k, n) != "not_crossed"),
        bisect_left(counts, True, key=lambda k: rule.verdict(k, n) == "crossed"),
    )


def chances_of_verdicts(rule: DecisionRule, rate: float, n: int) -> dict[Verdict, float]:
    """The chance of each verdict in one condition of `n` valid trials whose true rate is known."""
    from scipy.stats import binom

    open_from, crossed_from = counts_that_decide(rule, n)
    not_crossed, crossed = float(binom.cdf(open_from - 1, n, rate)), float(binom.sf(crossed_from - 1, n, rate))
    return {
        "crossed": crossed,
        "not_crossed": not_crossed,
        "inconclusive": max(0.0, 1 - crossed - not_crossed),
    }


def trials_for_rule(rule: DecisionRule, rate: float, verdict: Verdict, power: float) -> int | None:
    """The smallest number of trials with which a condition of this true rate gets the verdict with the power."""
    return _smallest(lambda n: chances_of_verdicts(rule, rate, n)[verdict] >= power, 1)


def _chances(n: int, rate: float) -> "NDArray[np.float64]":
    import numpy as np
    from scipy.stats import binom

    return np.asarray(binom.pmf(np.arange(n + 1), n, rate))


def _smallest(enough: Callable[[int], bool], least: int) -> int | None:
    """The smallest number that is enough.

    Power grows with the number of trials, but for small steps back since counts are whole: so a number that is not
    enough rules out all that are clearly smaller.
    """
    high = least
    while not enough(high):
        if high == MAX_TRIALS:
            return None
        high = min(2 * high, MAX_TRIALS)
    return next(n for n in range(max(least, 3 * high // 8), high + 1) if enough(n))
