"""What a comparison could have seen: the exact power of Fisher's test at the trials that there were."""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER = 0.80
ALPHA = 0.05
STEP = 0.01
"""Differences are told to a percentage point: more would be no use to a reader."""

TIE = 1 + 1e-7
"""Tables count as equally unlikely within this factor, as scipy has it."""


def detectable_difference(rate: float, n_first: int, n_second: int) -> float | None:
    """The smallest difference that would have been found with a power of 80 %, up or down.

    Args:
        rate: The true rate of the first condition.
        n_first: Its trials.
        n_second: Trials of the second condition.

    Returns:
        The difference, to a percentage point; None if none would have been.
    """
    if n_first == 0 or n_second == 0:
        return None
    rejected = _rejected(n_first, n_second)
    for step in range(1, round(1 / STEP) + 1):
        away = step * STEP
        others = [other for other in (rate - away, rate + away) if -TIE + 1 <= other <= TIE]
        if any(_power(rejected, rate, min(max(other, 0.0), 1.0)) >= POWER for other in others):
            return round(away, 2)
    return None


@lru_cache(maxsize=64)
def _rejected(n_first: int, n_second: int) -> "NDArray[np.bool_]":
    """For every pair of counts, whether Fisher's test tells them apart."""
    import numpy as np
    from scipy.stats import hypergeom

    rejected = np.zeros((n_first + 1, n_second + 1), dtype=bool)
    for successes in range(n_first + n_second + 1):
        k = np.arange(max(0, successes - n_second), min(n_first, successes) + 1)
        chance = hypergeom(n_first + n_second, successes, n_first).pmf(k)
        ascending = np.sort(chance)
        up_to = np.cumsum(ascending)[np.searchsorted(ascending, chance * TIE, side="right") - 1]
        rejected[k, successes - k] = up_to <= ALPHA
    return rejected


def _power(rejected: "NDArray[np.bool_]", first: float, second: float) -> float:
    import numpy as np
    from scipy.stats import binom

    n_first, n_second = rejected.shape[0] - 1, rejected.shape[1] - 1
    chances = binom.pmf(np.arange(n_first + 1), n_first, first), binom.pmf(np.arange(n_second + 1), n_second, second)
    return float(chances[0] @ rejected @ chances[1])
