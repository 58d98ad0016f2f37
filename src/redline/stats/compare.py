"""Comparisons between two conditions: exact tests, intervals of the difference, and the family that they stand in."""

from collections.abc import Sequence

from pydantic import Field

from redline._base import Frozen
from redline.stats.intervals import CONFIDENCE, Count, wilson

Difference = tuple[float, float]
"""Bounds of a difference of two rates, each from -1 to 1."""


class Pairs(Frozen):
    """Trials of two conditions, paired."""

    both: int = Field(ge=0)
    """Pairs in which it happened in both."""
    only_first: int = Field(ge=0)
    """Pairs in which it happened in the first alone."""
    only_second: int = Field(ge=0)
    """Pairs in which it happened in the second alone."""
    neither: int = Field(ge=0)
    """Pairs in which it happened in none."""

    @property
    def n(self) -> int:
        """How many pairs there are."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first(self) -> Count:
        """The first condition by itself."""
        return Count(k=self.both + self.only_first, n=self.n)

    @property
    def second(self) -> Count:
        """The second condition by itself."""
        return Count(k=self.both + self.only_second, n=self.n)


def fisher_exact(first: Count, second: Count) -> float:
    """Two-sided p of Fisher's exact test between two unpaired counts.

    9 of 10 against 5 of 10, the two published rates, give p = 0.14: ten trials do not tell them apart.
    """
    import numpy as np
    from scipy.stats import fisher_exact as test

    table = np.array([[first.k, first.n - first.k], [second.k, second.n - second.k]])
    return float(test(table).pvalue)


def mcnemar_exact(pairs: Pairs) -> float:
    """Two-sided p of McNemar's exact test: whether the pairs that differ fall to one side."""
    from scipy.stats import binomtest

    differing = pairs.only_first + pairs.only_second
    return float(binomtest(pairs.only_first, differing, 0.5).pvalue) if differing else 1.0


def newcombe(first: Count, second: Count) -> Difference:
    """Newcombe's interval (his method 10) of the rate of the first less that of the second, unpaired, at 95 %."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(
        first.k, first.n, second.k, second.n, method="newcomb", compare="diff", alpha=1 - CONFIDENCE
    )
    return float(low), float(high)


def newcombe_paired(pairs: Pairs) -> Difference:
    """Newcombe's interval (his method 10 for pairs) of the rate of the first less that of the second, at 95 %.

    No library at hand has it: the squared distances of the two Wilson intervals are added, less what the pairs share.
    """
    n = pairs.n
    first, second = pairs.first.k / n, pairs.second.k / n
    (low_first, high_first), (low_second, high_second) = wilson(pairs.first.k, n), wilson(pairs.second.k, n)
    shared = _correlation(pairs)

    def distance(one: float, other: float) -> float:
        return float((one**2 - 2 * shared * one * other + other**2) ** 0.5)

    difference = first - second
    return (
        difference - distance(first - low_first, high_second - second),
        difference + distance(high_first - first, second - low_second),
    )


def _correlation(pairs: Pairs) -> float:
    """Newcombe's estimate of what the pairs have in common, corrected for continuity where it is positive."""
    margins = pairs.first.k * (pairs.n - pairs.first.k) * pairs.second.k * (pairs.n - pairs.second.k)
    if margins == 0:
        return 0.0
    product = pairs.both * pairs.neither - pairs.only_first * pairs.only_second
    corrected = max(product - pairs.n / 2, 0.0) if product > 0 else float(product)
    return float(corrected / margins**0.5)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p values of a family of tests, adjusted by Holm so that the chance of any false alarm stays as it says."""
    if not p_values:
        return ()
    from statsmodels.stats.multitest import multipletests

    return tuple(float(p) for p in multipletests(list(p_values), method="holm")[1])
