"""Comparisons of two conditions: exact tests, intervals of the difference, and correction for a family of tests."""

import math
from collections.abc import Sequence

from pydantic import Field

from redline._base import Frozen
from redline.stats.intervals import Count, wilson

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
    events = first.k + second.k
    counts = range(max(0, events - second.n), min(first.n, events) + 1)
    # Whole numbers, so that equally likely tables are recognised without a tolerance.
    ways = [math.comb(first.n, k) * math.comb(second.n, events - k) for k in counts]
    observed = ways[first.k - counts.start]
    return sum(way for way in ways if way <= observed) / sum(ways)


def mcnemar_exact(pairs: Pairs) -> float:
    """Return the two-sided p value of McNemar's exact test, which uses the pairs that differ."""
    differing, fewer = pairs.only_first + pairs.only_second, min(pairs.only_first, pairs.only_second)
    at_most = sum(math.comb(differing, k) for k in range(fewer + 1))
    return min(1.0, 2 * at_most / (1 << differing))


def newcombe(first: Count, second: Count) -> Difference:
    """Return Newcombe's 95% interval of the difference of two unpaired rates, first minus second.

    This is method 10 of Newcombe 1998 (Statistics in Medicine 17:873): the squared distances of the two Wilson
    intervals from their rates are added. Without trials in a condition, every difference is possible.
    """
    return _newcombe(first, second, correlation=0.0)


def newcombe_paired(pairs: Pairs) -> Difference:
    """Return Newcombe's 95% interval (method 10 for pairs) of the difference of two paired rates, first minus second.

    This is method 10 of Newcombe 1998 (Statistics in Medicine 17:2635): the interval for unpaired rates, less the
    correlation of the pairs.
    """
    return _newcombe(pairs.first, pairs.second, _correlation(pairs))


def _newcombe(first: Count, second: Count, correlation: float) -> Difference:
    if first.n == 0 or second.n == 0:
        return (-1.0, 1.0)
    one, other = first.k / first.n, second.k / second.n
    (low_one, high_one), (low_other, high_other) = wilson(first.k, first.n), wilson(second.k, second.n)

    def distance(of_one: float, of_other: float) -> float:
        return math.sqrt(of_one**2 - 2 * correlation * of_one * of_other + of_other**2)

    return (
        one - other - distance(one - low_one, high_other - other),
        one - other + distance(high_one - one, other - low_other),
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
    """Return Holm-adjusted p values, which control the probability of any false positive in a family of tests.

    Holm 1979 (Scandinavian Journal of Statistics 6:65): the smallest p is multiplied by the number of tests, the next
    one by one less, and so on. None becomes smaller than an adjusted p before it.
    """
    adjusted = dict.fromkeys(range(len(p_values)), 0.0)
    highest = 0.0
    for rank, position in enumerate(sorted(adjusted, key=lambda position: p_values[position])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return tuple(adjusted.values())
