"""Comparisons: published worked examples, and properties of every table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from scipy.stats import fisher_exact as fisher_of_scipy

from redline.stats import (
    Count,
    Pairs,
    detectable_difference,
    fisher_exact,
    holm,
    mcnemar_exact,
    newcombe,
    newcombe_paired,
)

# Bentur 2009, as worked in Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8.
BENTUR = Pairs(both=1, only_first=1, only_second=7, neither=12)


def rounded(bounds: tuple[float, float], digits: int = 4) -> tuple[float, float]:
    return round(bounds[0], digits), round(bounds[1], digits)


@pytest.mark.parametrize(
    ("first", "second", "interval"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:873), table II, method 10, all eight examples.
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0000)),
        ((10, 10), (0, 10), (0.6075, 1.0000)),
    ],
)
def test_newcombes_interval_matches_the_published_table(
    first: tuple[int, int], second: tuple[int, int], interval: tuple[float, float]
) -> None:
    counts = [Count(k=k, n=n) for k, n in (first, second)]
    assert rounded(newcombe(*counts)) == interval


def test_newcombes_interval_for_pairs_matches_the_published_one() -> None:
    assert rounded(newcombe_paired(BENTUR), 3) == (-0.507, -0.026)


def test_without_trials_every_difference_is_possible() -> None:
    assert newcombe(Count(k=0, n=0), Count(k=1, n=2)) == newcombe(Count(k=1, n=2), Count(k=0, n=0)) == (-1, 1)
    assert newcombe_paired(Pairs(both=0, only_first=0, only_second=0, neither=0)) == (-1, 1)


def test_fishers_test_gives_the_published_p() -> None:
    """Fisher's tea tasting (The Design of Experiments, 1935): 3 of 4 cups right on each side, p = 34/70."""
    assert fisher_exact(Count(k=3, n=4), Count(k=1, n=4)) == pytest.approx(34 / 70)


sides = st.integers(0, 60).flatmap(lambda n: st.builds(Count, k=st.integers(0, n), n=st.just(n)))


@settings(max_examples=150)
@given(sides, sides)
def test_fishers_test_is_that_of_scipy(first: Count, second: Count) -> None:
    table = np.array([[first.k, first.n - first.k], [second.k, second.n - second.k]])
    assert fisher_exact(first, second) == pytest.approx(float(fisher_of_scipy(table).pvalue), rel=1e-6)


@settings(max_examples=150)
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_test_is_the_binomial_test_of_scipy(first: int, second: int) -> None:
    expected = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    found = mcnemar_exact(Pairs(both=1, only_first=first, only_second=second, neither=1))
    assert found == pytest.approx(expected, rel=1e-6)


def test_mcnemars_exact_test_gives_the_published_p() -> None:
    assert mcnemar_exact(BENTUR) == pytest.approx(0.0703, abs=1e-4)


def test_pairs_that_never_differ_are_no_evidence_of_a_difference() -> None:
    assert mcnemar_exact(Pairs(both=5, only_first=0, only_second=0, neither=5)) == 1.0


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_sequential_procedure_rejects(p_values: list[float], alpha: float) -> None:
    """Holm 1979: test p values in ascending order at alpha/m, alpha/(m-1), … and stop at the first that is above."""
    adjusted = holm(p_values)
    rejected: set[int] = set()
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        if (len(p_values) - rank) * p_values[position] > alpha:
            break
        rejected.add(position)
    assert {position for position, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(p <= after <= 1 for p, after in zip(p_values, adjusted, strict=True))


def test_ten_trials_per_arm_detect_from_one_half_no_difference_below_one_half() -> None:
    # 5/10 and 10/10 have p = 0.03, but true rates of 0.5 and 1 are distinguished in only 62% of runs.
    assert detectable_difference(0.5, 10, 10) is None
    assert detectable_difference(0.0, 10, 10) == 0.59


def test_a_detectable_difference_is_found_with_the_stated_power() -> None:
    found = detectable_difference(0.1, 12, 12)
    assert found is not None
    for difference, enough in ((found, True), (found - 0.01, False)):
        power = sum(
            binom.pmf(k, 12, 0.1) * binom.pmf(m, 12, 0.1 + difference)
            for k in range(13)
            for m in range(13)
            if fisher_exact(Count(k=k, n=12), Count(k=m, n=12)) <= 0.05
        )
        assert bool(power >= 0.8) is enough


def test_without_trials_nothing_is_detectable() -> None:
    assert detectable_difference(0.5, 0, 10) is None


tables = st.tuples(*[st.integers(0, 30)] * 4).filter(lambda cells: sum(cells) > 0)


@given(tables)
def test_an_interval_of_pairs_contains_the_difference_and_is_symmetric(cells: tuple[int, int, int, int]) -> None:
    both, first, second, neither = cells
    pairs = Pairs(both=both, only_first=first, only_second=second, neither=neither)
    low, high = newcombe_paired(pairs)
    assert -1 - 1e-9 <= low <= (first - second) / pairs.n + 1e-9
    assert (first - second) / pairs.n - 1e-9 <= high <= 1 + 1e-9
    turned = newcombe_paired(Pairs(both=both, only_first=second, only_second=first, neither=neither))
    assert (low, high) == pytest.approx((-turned[1], -turned[0]))
