"""Intervals: worked examples of the published rates, and properties of every count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest, bootstrap

from redline.stats import (
    Count,
    bounds_with_invalid,
    clopper_pearson,
    fisher_exact,
    percent_ends,
    rate,
    total_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("interval", "ends"),
    [
        ((0.0, 0.0048), ("0", "0.5")),
        ((0.9952, 1.0), ("99.5", "100")),
        ((0.0, 0.0001), ("0", "0.01")),
        ((0.554, 0.9975), ("55", "100")),
        ((0.501, 0.502), ("50.1", "50.2")),
        ((0.5, 0.5), ("50.00", "50.00")),
    ],
)
def test_an_interval_with_a_width_is_written_with_one(interval: tuple[float, float], ends: tuple[str, str]) -> None:
    assert percent_ends(interval) == ends


def percent(interval: tuple[float, float]) -> tuple[float, float]:
    return round(100 * interval[0], 1), round(100 * interval[1], 1)


def test_nine_of_ten_is_60_to_98_percent_by_wilson() -> None:
    assert percent(wilson(9, 10)) == (59.6, 98.2)


def test_five_of_ten_is_24_to_76_percent_by_wilson() -> None:
    assert percent(wilson(5, 10)) == (23.7, 76.3)


def test_zero_of_ten_is_at_most_31_percent_by_clopper_pearson() -> None:
    assert percent(clopper_pearson(0, 10)) == (0.0, 30.8)


def test_the_two_published_rates_are_not_distinguishable() -> None:
    assert fisher_exact(Count(k=9, n=10), Count(k=5, n=10)) == pytest.approx(0.1409, abs=1e-4)


def test_ten_of_ten_and_none_of_ten_are_distinguishable() -> None:
    assert fisher_exact(Count(k=10, n=10), Count(k=0, n=10)) < 1e-4


def test_without_trials_the_interval_is_zero_to_one() -> None:
    nothing = rate(0, 0, invalid=3)
    assert nothing.estimate is None
    assert nothing.wilson95 == nothing.clopper_pearson95 == nothing.bounds_with_invalid == (0.0, 1.0)


def test_invalid_trials_widen_the_bounds_and_leave_the_rate() -> None:
    with_invalid = rate(4, 8, invalid=2)
    assert with_invalid.estimate == 0.5
    assert with_invalid.bounds_with_invalid == (0.4, 0.6)


@pytest.mark.parametrize(("k", "n"), [(-1, 4), (5, 4), (1, 0)])
def test_a_count_beyond_its_trials_is_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a count"):
        wilson(k, n)


def test_a_count_model_beyond_its_trials_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a count"):
        Count(k=3, n=2)


counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_both_intervals_agree_with_a_second_library(count: tuple[int, int]) -> None:
    k, n = count
    expected = binomtest(k, n)
    assert wilson(k, n) == pytest.approx(tuple(expected.proportion_ci(method="wilson")), abs=1e-9)
    assert clopper_pearson(k, n) == pytest.approx(tuple(expected.proportion_ci(method="exact")), abs=1e-9)


@given(counts, st.integers(0, 50))
def test_every_interval_contains_the_estimate_within_zero_and_one(count: tuple[int, int], invalid: int) -> None:
    result = rate(*count, invalid=invalid)
    assert result.estimate is not None
    for low, high in (result.wilson95, result.clopper_pearson95):
        assert 0 <= low <= result.estimate <= high <= 1
    assert 0 <= result.bounds_with_invalid[0] <= result.bounds_with_invalid[1] <= 1


@given(counts)
def test_failures_mirror_successes(count: tuple[int, int]) -> None:
    k, n = count
    low, high = wilson(k, n)
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(counts, st.integers(1, 50))
def test_bounds_contain_every_possible_rate_with_the_invalid_trials(count: tuple[int, int], invalid: int) -> None:
    k, n = count
    low, high = bounds_with_invalid(k, n, invalid)
    assert (low, high) == (k / (n + invalid), (k + invalid) / (n + invalid))
    assert high - low == pytest.approx(invalid / (n + invalid))


def test_the_interval_of_a_total_contains_it_and_has_a_width() -> None:
    interval = total_interval([0, 3, 0, 1, 0, 0, 2, 0, 0, 0])
    assert interval is not None
    low, high = interval
    assert 0 <= low < 6 < high
    assert total_interval([0, 3, 0, 1, 0, 0, 2, 0, 0, 0]) == interval, "the same trials give the same interval"


def test_the_interval_of_a_total_is_the_percentile_bootstrap_of_scipy() -> None:
    counts = [0.0, 3.0, 0.0, 1.0, 5.0, 0.0, 2.0, 7.0, 1.0, 0.0, 0.0, 4.0]
    resampled = bootstrap((np.array(counts),), np.sum, n_resamples=20_000, method="percentile", rng=1)
    assert total_interval(counts) == pytest.approx(tuple(resampled.confidence_interval), abs=1.5)


@pytest.mark.parametrize("counts", [[], [2.0], [2.0] * 10])
def test_equal_trials_give_no_interval_of_the_total(counts: list[float]) -> None:
    assert total_interval(counts) is None
