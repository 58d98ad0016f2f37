"""Plans: how command lines and files are read, and what is rejected."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline._errors import UsageError
from redline.plan import Plan, PlanRecord, arms_from, completed, models_from
from redline.run import arm_task


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"arms": ["self_replication"], "models": ["redline/replicator"], **changes})


def test_a_factor_applies_to_every_scenario_that_has_it() -> None:
    arms = arms_from(["self_replication", "shutdown_avoidance"], ["trigger=instructed", "tether=untold"])
    assert [arm.factors for arm in arms] == [{"tether": "untold"}, {"trigger": "instructed", "tether": "untold"}]


def test_a_factor_given_twice_makes_two_arms() -> None:
    arms = arms_from(["shutdown_avoidance"], ["trigger=notice", "trigger=none"])
    assert [arm.factors["trigger"] for arm in arms] == ["notice", "none"]


def test_a_completed_plan_writes_out_every_default() -> None:
    factors = completed(plan()).arms[0].factors
    assert factors["tether"] == "told"
    assert factors["agent"] == "react"


def test_text_from_a_command_line_is_converted_to_the_type_of_its_factor() -> None:
    arms = arms_from(["shutdown_avoidance"], ["deadline=7.5"])
    assert completed(plan(arms=arms)).arms[0].factors["deadline"] == 7.5


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"scenario": "self_replicaton"}, "did you mean 'self_replication'"),
        ({"scenario": "self_replication", "factors": {"tehter": "told"}}, "did you mean 'tether'"),
        ({"scenario": "self_replication", "factors": {"tether": "tld"}}, "did you mean 'told'"),
        ({"scenario": "shutdown_avoidance", "factors": {"deadline": "soon"}}, "deadline=soon"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(arm: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        completed(plan(arms=[arm]))


def test_a_factor_that_no_chosen_scenario_has_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown factor 'trigger'"):
        arms_from(["self_replication"], ["trigger=notice"])


def test_a_model_argument_applies_to_the_controls_that_accept_it() -> None:
    models = models_from(["redline/replicator", "redline/flaky", "openai/x"], ["p=0.5"])
    assert [model.args for model in models] == [{}, {"p": 0.5}, {"p": 0.5}]


def test_a_model_argument_that_no_model_accepts_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown model argument 'q'"):
        models_from(["redline/flaky"], ["q=0.5"])


def test_an_unknown_control_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'refuser'"):
        models_from(["redline/refusr"], [])


def test_every_control_takes_the_delay_of_its_answers() -> None:
    specs = models_from(["redline/refuser", "redline/flaky"], ["delay=2", "p=0.3"])
    assert [spec.args for spec in specs] == [{"delay": 2}, {"delay": 2, "p": 0.3}]


def test_an_assignment_without_equals_sign_is_refused() -> None:
    with pytest.raises(UsageError, match="'trigger' is not of the form name=value"):
        arms_from(["self_replication"], ["trigger"])


def test_a_plan_that_names_an_arm_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="appears twice"):
        plan(arms=["self_replication", "self_replication"])


def test_an_arm_can_have_its_own_models_and_trials() -> None:
    own = {"scenario": "shutdown_avoidance", "models": ["redline/refuser", "redline/replicator"], "trials": 3}
    fixed = completed(plan(arms=["self_replication", own], trials=10))
    assert [[model.name for model in fixed.models_of(arm)] for arm in fixed.arms] == [
        ["redline/replicator"],
        ["redline/refuser", "redline/replicator"],
    ]
    assert [model.name for model in fixed.every_model] == ["redline/replicator", "redline/refuser"]
    assert fixed.planned_trials == 10 + 2 * 3
    assert [len(arm_task(arm, fixed).dataset) for arm in fixed.arms] == [10, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "the arm self_replication has no model"),
        ({"arms": [{"scenario": "self_replication", "models": ["redline/refuser"]}]}, "no arm uses the plan's"),
        ({"models": [{"name": "m", "args": {"a": 1}}, {"name": "m", "args": {"a": "1"}}]}, "have the same label m a=1"),
        ({"models": ["m", "m"]}, "appears twice"),
    ],
)
def test_models_that_are_ambiguous_or_would_not_run_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_an_arm_that_states_a_default_is_the_same_arm() -> None:
    same = [{"scenario": "self_replication"}, {"scenario": "self_replication", "factors": {"tether": "told"}}]
    with pytest.raises(UsageError, match="appears twice"):
        completed(plan(arms=same))


def test_a_changed_record_is_refused() -> None:
    record = PlanRecord.of(plan()).model_dump(by_alias=True)
    with pytest.raises(ValueError, match="its sha256 differs"):
        PlanRecord.model_validate(record | {"trials": 11})


def test_the_cost_of_a_trial_is_an_equal_share() -> None:
    assert plan(max_cost=5, trials=10).cost_per_trial == 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1000), st.integers(0, 2**40), st.sampled_from(["auto", "runc"]), st.floats(0, 600))
def test_a_record_keeps_the_plan_and_its_hash(trials: int, seed: int, runtime: str, hold: float) -> None:
    fixed = plan(trials=trials, seed=seed, runtime=runtime, hold=hold)
    again = PlanRecord.model_validate_json(PlanRecord.of(fixed).model_dump_json(by_alias=True))
    assert again.plan == fixed
    assert again.sha256 == fixed.sha256
