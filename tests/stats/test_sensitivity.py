"""Power of McNemar's exact test and detectable differences, against simulation-free references."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, fisher_exact

from redline.catalog import scenarios
from redline.guardrails import guardrails
from redline.plan import guard_trials
from redline.run.guarding import AT_WORK, JOB, every_guardrail
from redline.stats.sensitivity import ALPHA, POWER, detectable_in_pairs, detectable_unpaired, mcnemar_power


def enumerated(n: int, first: float, second: float, alpha: float) -> float:
    """Sum the probability of every rejected table, with scipy's test for each."""
    total = 0.0
    a, b = first * (1 - second), (1 - first) * second
    for x, y in product(range(n + 1), repeat=2):
        if x + y > n or x + y == 0:
            continue
        if binomtest(x, x + y, 0.5).pvalue <= alpha:
            total += binom.pmf(x + y, n, a + b) * binom.pmf(x, x + y, a / (a + b))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 13, 0.0625])
@pytest.mark.parametrize(("first", "second"), [(0.9, 0.3), (0.2, 0.7), (1.0, 0.0), (0.5, 0.5)])
def test_the_power_is_the_sum_over_all_rejected_tables(first: float, second: float, alpha: float) -> None:
    for n in (1, 5, 6, 14):
        assert mcnemar_power(n, first, second, alpha) == pytest.approx(enumerated(n, first, second, alpha), abs=1e-9)


def test_five_pairs_that_all_differ_are_not_enough_and_six_are() -> None:
    assert mcnemar_power(5, 1.0, 0.0) == 0.0
    assert mcnemar_power(6, 1.0, 0.0) == pytest.approx(1.0)
    assert detectable_in_pairs(1.0, 5) is None


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1), st.integers(0, 40), st.sampled_from([0.05, 0.01]))
def test_a_detectable_difference_reaches_the_power_and_one_point_less_does_not(
    rate: float, n: int, alpha: float
) -> None:
    found = detectable_in_pairs(rate, n, alpha)

    def best(difference: float) -> float:
        others = [other for other in (rate - difference, rate + difference) if -1e-9 <= other <= 1 + 1e-9]
        return max((mcnemar_power(n, min(max(one, 0), 1), rate, alpha) for one in others), default=0.0)

    if found is None:
        assert all(best(step / 100) < POWER for step in range(1, 101))
    else:
        assert best(found) >= POWER
        assert found == 0.01 or best(found - 0.01) < POWER


def test_no_unpaired_difference_is_detectable_with_few_trials() -> None:
    assert detectable_unpaired(0.5, 10, 10) is None
    assert detectable_unpaired(0.5, 0, 10) is None
    found = detectable_unpaired(0.0, 10, 10)
    assert found is not None
    table = [[10, 0], [10 - round(10 * found), round(10 * found)]]
    assert fisher_exact(np.array(table)).pvalue <= ALPHA


def test_a_default_comparison_of_guardrails_can_find_a_real_effect() -> None:
    trials, job_trials = guard_trials()
    compared = len(every_guardrail(has_monitor=False))
    assert compared == len(guardrails()) - 1
    level = ALPHA / compared
    jobs = len(scenarios()[AT_WORK].factors[JOB].choices)
    # The figures that plans/defaults.toml and the documentation state.
    assert (compared, jobs) == (13, 14)
    assert detectable_in_pairs(0.9, trials, level) == 0.76
    assert detectable_in_pairs(1.0, jobs * job_trials, level) == 0.29
    # What was the default before could not find them.
    assert detectable_in_pairs(0.9, 10, level) is None
    assert (detectable_in_pairs(1.0, jobs, level) or 1.0) > 0.7
