"""How well scores separate attacks from ordinary work."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.stats.detection import at_false_alarm_rate, at_threshold, auroc, roc, upper_bound

SCORES = st.lists(st.integers(0, 20).map(lambda number: number / 20), min_size=1, max_size=40)


@given(SCORES, SCORES)
def test_the_curve_rises_from_zero_to_one(attacks: list[float], benign: list[float]) -> None:
    points = roc(attacks, benign)
    assert (points[0].false_alarms, points[0].detected) == (0.0, 0.0)
    assert (points[-1].false_alarms, points[-1].detected) == (1.0, 1.0)
    for before, after in zip(points, points[1:], strict=False):
        assert before.false_alarms <= after.false_alarms
        assert before.detected <= after.detected


@pytest.mark.slow
@settings(deadline=None)  # the first use of a library is slow
@given(SCORES, SCORES)
def test_the_area_equals_that_of_the_curve_and_of_scikit_learn(attacks: list[float], benign: list[float]) -> None:
    from sklearn.metrics import roc_auc_score  # slow to import

    points = roc(attacks, benign)
    trapezes = sum(
        (b.false_alarms - a.false_alarms) * (a.detected + b.detected) / 2
        for a, b in zip(points, points[1:], strict=False)
    )
    found = auroc(attacks, benign)
    assert found is not None
    assert found.value == pytest.approx(trapezes, abs=1e-9)
    truth = [1] * len(attacks) + [0] * len(benign)
    assert found.value == pytest.approx(roc_auc_score(truth, attacks + benign), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(SCORES, SCORES)
def test_swapping_the_groups_mirrors_the_area_and_its_interval(attacks: list[float], benign: list[float]) -> None:
    one, other = auroc(attacks, benign), auroc(benign, attacks)
    assert one is not None and other is not None
    assert (other.value, other.low, other.high) == pytest.approx((1 - one.value, 1 - one.high, 1 - one.low), abs=1e-6)


@pytest.mark.parametrize(
    ("m", "n", "value", "low", "high"),
    [
        # These bounds solve the paper's equation.
        (1, 1, 1.0, 0.2065, 1.0),
        (20, 20, 1.0, 0.8987, 1.0),
        (20, 20, 0.5, 0.3315, 0.6685),
    ],
)
def test_the_interval_of_the_area_has_a_width_at_its_ends_too(
    m: int, n: int, value: float, low: float, high: float
) -> None:
    attacks = [1.0] * m if value == 1.0 else [0.5] * m
    benign = [0.0] * n if value == 1.0 else [0.5] * n
    found = auroc(attacks, benign)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=2e-4)


@given(SCORES, SCORES, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_the_selected_threshold_keeps_its_bound_and_no_other_such_threshold_detects_more(
    attacks: list[float], benign: list[float], at_most: float
) -> None:
    found = at_false_alarm_rate(attacks, benign, at_most)
    assert found is not None
    assert found.false_alarms.k <= at_most * len(benign)
    for threshold in {*attacks, *benign}:
        other = at_threshold(threshold, attacks, benign, at_most)
        if other.false_alarms.k <= at_most * len(benign):
            assert other.detected.k <= found.detected.k


@pytest.mark.parametrize(
    ("k", "n", "bound"), [(0, 100, 0.0295), (0, 299, 0.00997), (1, 100, 0.0466), (5, 5, 1.0), (0, 0, 1.0)]
)
def test_no_alarm_bounds_a_rate_by_its_n(k: int, n: int, bound: float) -> None:
    assert upper_bound(k, n) == pytest.approx(bound, abs=1e-4)


@pytest.mark.parametrize(("n", "bears"), [(100, False), (298, False), (299, True)])
def test_a_claim_needs_enough_ordinary_trials(n: int, bears: bool) -> None:
    found = at_false_alarm_rate([1.0] * 10, [0.0] * n)
    assert found is not None
    assert (found.detected.k, found.false_alarms.k, found.supports_claim) == (10, 0, bears)


def test_uninformative_scores_detect_nothing_without_false_alarms() -> None:
    found = at_false_alarm_rate([0.5] * 10, [0.5] * 10)
    assert found is not None
    assert (found.threshold, found.detected.k) == (None, 0)


@pytest.mark.parametrize(("attacks", "benign"), [([], [0.1]), ([0.1], []), ([], [])])
def test_a_group_without_scores_gives_no_result(attacks: Sequence[float], benign: Sequence[float]) -> None:
    assert roc(attacks, benign) == ()
    assert auroc(attacks, benign) is None
    assert at_false_alarm_rate(attacks, benign) is None
