"""What a comparison can find: exact power of McNemar's test, and the smallest difference that a comparison detects.

A comparison within a family reaches its verdict at the family's level divided by its size, since Holm's method requires
this of the smallest p. Later steps are less strict, so these figures are conservative. So is the assumption that the
trials of a pair are independent: what a shared seed has in common reduces the pairs that differ by chance.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from redline.stats.binomial import log_ways, pmf
from redline.stats.power import MAX_TRIALS, rejected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER = 0.8
"""Probability with which a difference must be found to count as detectable."""
ALPHA = 0.05
"""Probability of any false finding in a family."""
STEP = 0.01
"""Resolution of detectable differences: one percentage point."""
ROUNDING = 1e-9
"""Tolerance for rates that are sums of steps."""


def mcnemar_power(n: int, first: float, second: float, alpha: float = ALPHA) -> float:
    """Return the power of McNemar's exact two-sided test.

    Args:
        n: Number of pairs.
        first: True rate of the first condition.
        second: True rate of the second condition.
        alpha: Level of the test.
    """
    import numpy as np

    only_first, only_second = first * (1 - second), (1 - first) * second
    differing = only_first + only_second
    if n == 0 or differing <= 0:
        return 0.0
    ways, rejected_counts = _pairs_that_reject(n, alpha)
    # A share of exactly 0 or 1 has no logarithm; the nearest number changes no probability.
    share = min(max(only_first / differing, np.finfo(float).tiny), 1 - np.finfo(float).epsneg)
    counts = np.arange(n + 1)
    chances = np.exp(ways + counts * np.log(share) + (counts[:, None] - counts) * np.log1p(-share))
    rejects = np.where(rejected_counts, chances, 0.0).sum(axis=1)
    return float(pmf(n, min(differing, 1.0)) @ rejects)


@lru_cache(maxsize=8)
def _pairs_that_reject(n: int, alpha: float) -> "tuple[NDArray[np.float64], NDArray[np.bool_]]":
    """Return two tables whose row is the number of differing pairs, and whose column how many are of the first kind.

    Returns:
        The logarithm of the binomial coefficient, negative infinity where there is none; whether the test rejects.
    """
    import numpy as np

    ways, rejects = np.full((n + 1, n + 1), -np.inf), np.zeros((n + 1, n + 1), dtype=bool)
    for differing in range(n + 1):
        ways[differing, : differing + 1] = log_ways(differing)
        tail = 2 * np.cumsum(pmf(differing, 0.5))  # p of this count of the rarer kind, as long as it is below 1
        rare = tail <= alpha * (1 + ROUNDING)
        rejects[differing, : differing + 1] = rare | rare[::-1]
    return ways, rejects


@lru_cache(maxsize=256)
def detectable_in_pairs(rate: float, n: int, alpha: float = ALPHA) -> float | None:
    """Return the smallest difference, in either direction, that `n` pairs detect with a power of 80%.

    Args:
        rate: True rate of the baseline.
        n: Number of pairs.
        alpha: Level of the test.

    Returns:
        The difference, to one percentage point; None if these pairs detect none.
    """
    n = min(n, MAX_TRIALS)  # as in the unpaired case below
    return _smallest(rate, lambda other: mcnemar_power(n, other, rate, alpha))


def detectable_unpaired(rate: float, n_first: int, n_second: int, alpha: float = ALPHA) -> float | None:
    """Return the smallest difference, in either direction, that Fisher's exact test detects with a power of 80%.

    Args:
        rate: True rate of the baseline, which has `n_first` trials.
        n_first: Trials of the baseline.
        n_second: Trials of the condition compared with it.
        alpha: Level of the test.

    Returns:
        The difference, to one percentage point; None if these trials detect none.
    """
    if not n_first or not n_second:
        return None
    # Above this number, more trials hardly change the figure, and the table of all counts would be large.
    n_first, n_second = min(n_first, MAX_TRIALS), min(n_second, MAX_TRIALS)
    rejects = _rejected(n_first, n_second, alpha)
    baseline = pmf(n_first, rate) @ rejects
    return _smallest(rate, lambda other: float(baseline @ pmf(n_second, other)))


@lru_cache(maxsize=64)
def _rejected(n_first: int, n_second: int, alpha: float) -> "NDArray[np.bool_]":
    return rejected(n_first, n_second, alpha)


def _smallest(rate: float, power: Callable[[float], float]) -> float | None:
    for step in range(1, round(1 / STEP) + 1):
        difference = step * STEP
        others = [other for other in (rate - difference, rate + difference) if -ROUNDING <= other <= 1 + ROUNDING]
        if any(power(min(max(other, 0.0), 1.0)) >= POWER for other in others):
            return round(difference, 2)
    return None
