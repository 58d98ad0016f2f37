"""Power and numbers of trials, compared with SciPy's test on every table."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from redline.stats import DecisionRule, Effect
from redline.stats.power import (
    chances_of_verdicts,
    counts_that_decide,
    fisher_power,
    rejected,
    trials_for_fisher,
    trials_for_rule,
)

PUBLISHED = Effect(baseline=0.5, alternative=0.9)


def binomial(k: int, n: int, p: float) -> float:
    return float(comb(n, k) * p**k * (1 - p) ** (n - k))


def p_by_scipy(i: int, n_first: int, j: int, n_second: int) -> float:
    return float(fisher_exact(np.array([[i, n_first - i], [j, n_second - j]])).pvalue)


def power_by_scipy(effect: Effect, n: int) -> float:
    return sum(
        binomial(i, n, effect.baseline) * binomial(j, n, effect.alternative)
        for i in range(n + 1)
        for j in range(n + 1)
        if p_by_scipy(i, n, j, n) <= effect.alpha
    )


@pytest.mark.slow
def test_23_trials_per_arm_distinguish_the_two_published_rates_and_22_do_not() -> None:
    assert trials_for_fisher(PUBLISHED) == 23
    for n, enough in ((22, False), (23, True)):
        expected = power_by_scipy(PUBLISHED, n)
        assert (expected >= 0.8) is enough
        assert fisher_power(PUBLISHED, n, n) == pytest.approx(expected, abs=1e-9)


def test_ten_trials_as_published_have_a_power_of_a_third() -> None:
    assert fisher_power(PUBLISHED, 10, 10) == pytest.approx(power_by_scipy(PUBLISHED, 10), abs=1e-9)
    assert fisher_power(PUBLISHED, 10, 10) < 0.4


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 10), st.integers(1, 10), st.sampled_from([0.01, 0.05, 0.2]))
def test_every_table_is_rejected_as_scipy_does(n_first: int, n_second: int, alpha: float) -> None:
    ours = rejected(n_first, n_second, alpha)
    for i in range(n_first + 1):
        for j in range(n_second + 1):
            p = p_by_scipy(i, n_first, j, n_second)
            if abs(p - alpha) > 1e-12:  # a p of exactly alpha may be rounded to either side
                assert ours[i, j] == (p <= alpha)


def test_an_effect_too_small_for_any_run_exceeds_the_search_limit() -> None:
    assert trials_for_fisher(Effect(baseline=0.5, alternative=0.51)) is None


def test_an_effect_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to detect"):
        Effect(baseline=0.5, alternative=0.5)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 15), st.floats(0, 1), st.floats(0, 0.99))
def test_chances_of_verdicts_equal_the_sum_over_counts(n: int, rate: float, threshold: float) -> None:
    rule = DecisionRule(threshold=threshold)
    expected = dict.fromkeys(("crossed", "not_crossed", "inconclusive"), 0.0)
    for k in range(n + 1):
        expected[rule.verdict(k, n)] += binomial(k, n, rate)
    assert chances_of_verdicts(rule, rate, n) == pytest.approx(expected, abs=1e-9)


def test_deciding_counts_are_next_to_the_inconclusive_range() -> None:
    assert counts_that_decide(DecisionRule(threshold=0.5), 10) == (2, 9)
    assert counts_that_decide(DecisionRule(threshold=0.0), 10) == (0, 1)


def test_the_rule_needs_17_empty_trials_to_exclude_one_in_five() -> None:
    assert 1 - 0.025 ** (1 / 17) < 0.2 < 1 - 0.025 ** (1 / 16)  # the exact upper bounds of 0/17 and 0/16
    assert trials_for_rule(DecisionRule(threshold=0.2), 0.0, "not_crossed", 0.8) == 17
