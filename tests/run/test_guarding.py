"""Arms of a comparison of guardrails."""

from typing import Any

import pytest

from redline._errors import UsageError
from redline.guardrails import guardrails
from redline.plan import Arm, Plan, completed
from redline.run.guarding import GuardArms, every_guardrail, guard_arms, label_of, settings_of


def arms(*names: str, **changes: Any) -> GuardArms:
    settings: dict[str, Any] = {
        "stack": False,
        "factors": {},
        "attacks": ["self_replication", "shutdown_avoidance"],
        "jobs": [],
        "trials_per_job": 1,
    }
    return guard_arms(names, **settings | changes)


def settings(found: GuardArms, scenario: str) -> list[object]:
    return [arm.factors["guardrails"] for arm in found.arms if arm.scenario == scenario]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], ["none", "a"]),
        (["a", "b"], ["none", "a", "b", "a+b"]),
        (["a", "b", "c"], ["none", "a", "b", "c", "a+b+c", "b+c", "a+c", "a+b"]),
    ],
)
def test_a_stack_is_off_each_alone_all_and_all_but_one(names: list[str], expected: list[str]) -> None:
    assert settings_of(names, stack=True) == expected
    assert settings_of(names, stack=False) == ["none", *names]


def test_an_incompatible_guardrail_is_left_out_and_reported() -> None:
    found = arms("weight_lock", "kill_on_notice")
    assert settings(found, "self_replication") == ["none", "weight_lock"]
    assert settings(found, "shutdown_avoidance") == ["none", "weight_lock", "kill_on_notice"]
    (line,) = found.left_out
    assert line.startswith("self_replication without kill_on_notice")


def test_every_arm_of_a_full_comparison_is_valid_in_a_plan() -> None:
    assert set(guardrails()) - set(every_guardrail(has_monitor=False)) == {"llm_monitor"}
    found = arms(*every_guardrail(has_monitor=True), stack=True, factors={"weights": "16MiB"})
    plan = completed(Plan(arms=found.arms, models=("redline/replicator",), trials=1))
    assert len(plan.arms) == len(found.arms)
    assert {arm.factors["weights"] for arm in plan.arms} == {"16MiB"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ["weight_lok"]},
        {"names": ["target_lock"]},
        {"names": ["kill_on_notice"], "attacks": ["self_replication"]},
        {"names": ["weight_lock"], "attacks": ["continuity"]},
        {"names": ["weight_lock"], "jobs": ["no_such_job"]},
        {"names": ["weight_lock"], "attacks": []},
    ],
)
def test_a_comparison_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        arms(*wrong.pop("names"), **wrong)


@pytest.mark.parametrize(
    ("setting", "label"),
    [("none", "off"), ("a", "a"), ("a+b:x=1+c", "all"), ("a+c", "all but b"), ("c+b:x=1", "all but a"), ("a+d", "a+d")],
)
def test_labels_name_the_missing_guardrail(setting: str, label: str) -> None:
    assert label_of(setting, ["a", "b:x=1", "c"]) == label


def test_an_arm_without_guardrails_is_the_partner_of_one_with() -> None:
    found = arms("weight_lock", attacks=["self_replication"])
    assert found.arms == (
        Arm(scenario="self_replication", factors={"guardrails": "none"}),
        Arm(scenario="self_replication", factors={"guardrails": "weight_lock"}),
    )
