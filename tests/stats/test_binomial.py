"""Binomial probabilities, exact bounds and roots, compared with SciPy and with published figures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import beta, binom

from redline.stats.binomial import exact_upper_bound, log_ways, pmf, root

RATES = st.one_of(st.sampled_from([0.0, 1.0, 1 - 1e-12]), st.floats(1e-12, 1))  # SciPy overflows at smaller ones


@given(st.integers(0, 500), RATES)
def test_probabilities_are_those_of_scipy(n: int, rate: float) -> None:
    assert pmf(n, rate) == pytest.approx(binom.pmf(np.arange(n + 1), n, rate), rel=1e-8, abs=1e-12)
    assert float(pmf(n, rate).sum()) == pytest.approx(1)


@settings(max_examples=200)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(1e-6, 0.3))
def test_the_exact_bound_is_that_of_scipy(count: tuple[int, int], alpha: float) -> None:
    k, n = count
    expected = 1.0 if k == n else float(beta.ppf(1 - alpha, k + 1, n - k))
    assert exact_upper_bound(k, n, alpha) == pytest.approx(expected, rel=1e-8)


def test_the_rule_of_three() -> None:
    """Hanley and Lippman-Hand 1983 (JAMA 249:1743): no event in n trials bounds the rate by about 3/n."""
    assert exact_upper_bound(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert exact_upper_bound(0, 1000, 0.05) == pytest.approx(0.003, abs=1e-5)


def test_coefficients_are_shared_and_cannot_be_changed() -> None:
    assert np.exp(log_ways(4)) == pytest.approx([1, 4, 6, 4, 1])
    with pytest.raises(ValueError, match="read-only"):
        log_ways(4)[0] = 1


@given(st.floats(0.001, 0.999), st.integers(1, 9), st.booleans())
def test_roots_are_those_of_scipy(place: float, power: int, falls: bool) -> None:
    def curve(x: float) -> float:
        return (-1 if falls else 1) * (math.expm1(power * x) - math.expm1(power * place))

    assert root(curve, 0.0, 1.0) == pytest.approx(brentq(curve, 0.0, 1.0), rel=1e-9)
