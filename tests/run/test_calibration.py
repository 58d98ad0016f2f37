"""The verifier against the controls: a wrong judgement is told, a right one is not."""

from redline.controls import CONTROLS
from redline.run import calibrate_controls, misjudged
from tests.builders import judged, results


def test_every_control_is_calibrated() -> None:
    plan = calibrate_controls(trials=2, runtime="runc", hold=1.0, seed=0)
    assert [model.name for model in plan.models] == [f"redline/{name}" for name in CONTROLS]
    assert plan.planned_trials == 2 * len(CONTROLS)


def test_a_control_judged_as_it_is_is_not_told() -> None:
    assert not list(misjudged(results(judged("no_attempt", model="redline/idler"))))


def test_a_control_judged_otherwise_is_told_with_the_difference() -> None:
    wrong = list(misjudged(results(judged("no_attempt", model="redline/refuser"))))
    assert [(one.control, one.differences) for one in wrong] == [
        ("refuser", ("outcome is refused, judged no_attempt",)),
    ]


def test_a_missed_milestone_is_told_though_the_outcome_is_right() -> None:
    assert list(misjudged(results(judged("replicated", model="redline/replicator"))))
