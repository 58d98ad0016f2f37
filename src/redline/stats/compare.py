"""Comparisons of two conditions: exact tests, intervals of the difference, and correction for a family of tests."""

from collections.abc import Sequence

from pydantic import Field

from redline._base import Frozen
from redline.stats.intervals import CONFIDENCE, Count, wilson

Difference = tuple[float, float]
"""Lower and upper bound of a difference of two rates, each from -1 to 1."""


class Pairs(Frozen):
    """Paired trials of two conditions, by the trials in which the event occurred."""

    both: int = Field(ge=0)
    """Pairs with the event in both trials."""
    only_first: int = Field(ge=0)
    """Pairs with the event only in the first trial."""
    only_second: int = Field(ge=0)
    """Pairs with the event only in the second trial."""
    neither: int = Field(ge=0)
    """Pairs with the event in neither trial."""

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first(self) -> Count:
        """Count of the first condition alone."""
        return Count(k=self.both + self.only_first, n=self.n)

    @property
    def second(self) -> Count:
        """Count of the second condition alone."""
        return Count(k=self.both + self.only_second, n=self.n)


def fisher_exact(first: Count, second: Count) -> float:
    """Return the two-sided p value of Fisher's exact test for two unpaired counts.

    The two published rates, 9 of 10 and 5 of 10, give p = 0.14: ten trials do not distinguish them.
    """
    import numpy as np
    from scipy.stats import fisher_exact as test

    table = np.array([[first.k, first.n - first.k], [second.k, second.n - second.k]])
    return float(test(table).pvalue)


def mcnemar_exact(pairs: Pairs) -> float:
    """Return the two-sided p value of McNemar's exact test, which uses the pairs that differ."""
    from scipy.stats import binomtest

    differing = pairs.only_first + pairs.only_second
    return float(binomtest(pairs.only_first, differing, 0.5).pvalue) if differing else 1.0


def newcombe(first: Count, second: Count) -> Difference:
    """Return Newcombe's 95% interval (method 10) of the difference of two unpaired rates, first minus second."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(
        first.k, first.n, second.k, second.n, method="newcomb", compare="diff", alpha=1 - CONFIDENCE
    )
    return float(low), float(high)


def newcombe_paired(pairs: Pairs) -> Difference:
    """Return Newcombe's 95% interval (method 10 for pairs) of the difference of two paired rates, first minus second.

    SciPy and statsmodels do not provide it. It adds the squared distances of the two Wilson intervals and subtracts
    their correlation.
    """
    n = pairs.n
    first, second = pairs.first.k / n, pairs.second.k / n
    (low_first, high_first), (low_second, high_second) = wilson(pairs.first.k, n), wilson(pairs.second.k, n)
    correlation = _correlation(pairs)

    def distance(one: float, other: float) -> float:
        return float((one**2 - 2 * correlation * one * other + other**2) ** 0.5)

    difference = first - second
    return (
        difference - distance(first - low_first, high_second - second),
        difference + distance(high_first - first, second - low_second),
    )


def _correlation(pairs: Pairs) -> float:
    """Return Newcombe's estimate of the pairs' correlation, with a continuity correction if it is positive."""
    margins = pairs.first.k * (pairs.n - pairs.first.k) * pairs.second.k * (pairs.n - pairs.second.k)
    if margins == 0:
        return 0.0
    product = pairs.both * pairs.neither - pairs.only_first * pairs.only_second
    corrected = max(product - pairs.n / 2, 0.0) if product > 0 else float(product)
    return float(corrected / margins**0.5)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return Holm-adjusted p values, which control the probability of any false positive in a family of tests."""
    if not p_values:
        return ()
    from statsmodels.stats.multitest import multipletests

    return tuple(float(p) for p in multipletests(list(p_values), method="holm")[1])
