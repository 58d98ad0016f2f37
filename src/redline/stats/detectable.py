"""Smallest detectable difference of a comparison, from the exact power of Fisher's test with the actual trials."""

from functools import lru_cache
from typing import TYPE_CHECKING

from redline.stats.binomial import pmf
from redline.stats.power import TIE, rejected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER = 0.80
ALPHA = 0.05
STEP = 0.01
"""Resolution of reported differences: one percentage point."""


def detectable_difference(rate: float, n_first: int, n_second: int) -> float | None:
    """Return the smallest difference, in either direction, that the trials detect with a power of 80%.

    Args:
        rate: True rate of the first condition.
        n_first: Trials of the first condition.
        n_second: Trials of the second condition.

    Returns:
        The difference, to one percentage point; None if no difference is detectable.
    """
    if n_first == 0 or n_second == 0:
        return None
    rejects = _rejected(n_first, n_second)
    for step in range(1, round(1 / STEP) + 1):
        difference = step * STEP
        others = [other for other in (rate - difference, rate + difference) if -TIE + 1 <= other <= TIE]
        if any(_power(rejects, rate, min(max(other, 0.0), 1.0)) >= POWER for other in others):
            return round(difference, 2)
    return None


@lru_cache(maxsize=64)
def _rejected(n_first: int, n_second: int) -> "NDArray[np.bool_]":
    return rejected(n_first, n_second, ALPHA)


def _power(rejects: "NDArray[np.bool_]", first: float, second: float) -> float:
    n_first, n_second = rejects.shape[0] - 1, rejects.shape[1] - 1
    return float(pmf(n_first, first) @ rejects @ pmf(n_second, second))
