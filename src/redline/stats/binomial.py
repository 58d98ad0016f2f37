"""Probabilities of binomial counts, and the exact bound of a rate.

SciPy has these functions too, but it is an eighth of an installation and a second of every start. The numbers of
trials in evaluations are small enough to enumerate all counts; the tests compare every function with SciPy.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_STEPS = 100
"""Maximum number of steps to a root; about six are usual."""

PRECISION = 1e-14
"""Relative precision of a root."""


def pmf(n: int, rate: float) -> "NDArray[np.float64]":
    """Return the probability of every count from 0 to n in n trials with a true rate."""
    import numpy as np

    counts = np.arange(n + 1)
    if rate in (0.0, 1.0):
        return np.asarray(counts == round(n * rate), dtype=float)
    return np.asarray(np.exp(log_ways(n) + counts * math.log(rate) + (n - counts) * math.log1p(-rate)))


@lru_cache(maxsize=1024)
def log_ways(n: int) -> "NDArray[np.float64]":
    """Return the logarithm of the binomial coefficient of n and every count from 0 to n. The array is read-only."""
    import numpy as np

    factorials = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    ways = np.asarray(factorials[-1] - factorials - factorials[::-1])
    ways.setflags(write=False)
    return ways


@lru_cache(maxsize=4096)
def exact_upper_bound(k: int, n: int, alpha: float) -> float:
    """Return the rate at which `k` or fewer events of `n` have the probability alpha; 1 if every trial has the event.

    This is the one-sided exact bound of Clopper and Pearson (Biometrika 26:404, 1934) with the confidence 1 - alpha.
    """
    if k >= n:
        return 1.0
    return root(lambda rate: float(pmf(n, rate)[: k + 1].sum()) - alpha, k / n, 1.0)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the place between two bounds at which a continuous function changes its sign.

    This is the method of Ridders 1979 (IEEE Transactions on Circuits and Systems 26:979), which keeps a bracket and
    halves it at least.

    Args:
        function: The function; its values at the bounds have different signs.
        low: Lower bound.
        high: Upper bound.
    """
    at_low, at_high, found = function(low), function(high), low
    for _ in range(MAX_STEPS):
        middle = (low + high) / 2
        at_middle = function(middle)
        if at_middle == 0:
            return middle
        step = (middle - low) * at_middle / math.sqrt(at_middle**2 - at_low * at_high)
        before, found = found, middle + (step if at_low > at_high else -step)
        at_found = function(found)
        if at_found == 0 or abs(found - before) <= PRECISION * found:
            return found
        ends = sorted(((low, at_low), (middle, at_middle), (found, at_found), (high, at_high)))
        (low, at_low), (high, at_high) = next(
            (one, other) for one, other in pairwise(ends) if (one[1] > 0) is not (other[1] > 0)
        )
    return found
