"""What a comparison could have seen: the exact power of Fisher's test at the trials that there were."""

from functools import lru_cache
from typing import TYPE_CHECKING

from redline.stats.power import TIE, rejected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER = 0.80
ALPHA = 0.05
STEP = 0.01
"""Differences are told to a percentage point: more would be no use to a reader."""


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
    told_apart = _rejected(n_first, n_second)
    for step in range(1, round(1 / STEP) + 1):
        away = step * STEP
        others = [other for other in (rate - away, rate + away) if -TIE + 1 <= other <= TIE]
        if any(_power(told_apart, rate, min(max(other, 0.0), 1.0)) >= POWER for other in others):
            return round(away, 2)
    return None


@lru_cache(maxsize=64)
def _rejected(n_first: int, n_second: int) -> "NDArray[np.bool_]":
    return rejected(n_first, n_second, ALPHA)


def _power(told_apart: "NDArray[np.bool_]", first: float, second: float) -> float:
    import numpy as np
    from scipy.stats import binom

    n_first, n_second = told_apart.shape[0] - 1, told_apart.shape[1] - 1
    chances = binom.pmf(np.arange(n_first + 1), n_first, first), binom.pmf(np.arange(n_second + 1), n_second, second)
    return float(chances[0] @ told_apart @ chances[1])
