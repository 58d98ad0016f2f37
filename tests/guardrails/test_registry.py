"""The factor `guardrails`: names and parameters, also of guardrails from other packages."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from redline._errors import UsageError
from redline.guardrails import guardrails, read_guardrails, registry
from redline.guardrails.write_quota import WriteQuota
from redline.scenarios.self_replication import self_replication
from redline.scenarios.shutdown_avoidance import shutdown_avoidance
from redline.verify.guarded import LADDER, guarded
from redline.verify.milestones import MILESTONES
from redline.verify.trial import TrialEvent
from tests.verify.builders import evidence


@pytest.fixture
def fresh() -> Iterator[None]:
    guardrails.cache_clear()
    yield
    guardrails.cache_clear()


def provide(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    point = EntryPoint(name, value, registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])


def test_none_yields_no_guardrails() -> None:
    assert read_guardrails("none") == {}


def test_parameters_are_parsed_and_typed() -> None:
    made = read_guardrails("replica_cap:engines=3+write_quota:share=0.5")
    assert list(made) == ["replica_cap", "write_quota"]
    assert made["replica_cap"].caps() == {"replicas": 2, "strict": True}
    assert isinstance(made["write_quota"], WriteQuota)
    assert made["write_quota"].parameters.share == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "weight_lok",
        "weight_lock+weight_lock",
        "weight_lock+none",
        "weight_lock+",
        "weight_lock:x=1",
        "replica_cap:engines",
        "replica_cap:engines=0",
        "replica_cap:engines=1:engines=2",
        "write_quota:share=nan",
        "target_lock",
        "write_quota+approval:operator=maybe",
        "kill_on_notice",
    ],
)
def test_an_invalid_factor_is_refused_in_one_line(wrong: str) -> None:
    with pytest.raises(UsageError) as refusal:
        self_replication(trials=1, guardrails=wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong", [{"nodes": 2, "guardrails": "write_quota"}, {"agent": "in_cell", "guardrails": "approval"}]
)
def test_a_guardrail_that_is_incompatible_with_an_arm_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        self_replication(trials=1, **wrong)


def test_guardrails_are_a_factor_and_part_of_the_arms_name() -> None:
    (sample,) = shutdown_avoidance(trials=1, guardrails="weight_lock+kill_on_notice").dataset
    assert sample.metadata is not None
    assert sample.metadata["factors"]["guardrails"] == "weight_lock+kill_on_notice"
    assert "guardrails=weight_lock+kill_on_notice" in str(sample.id)
    (plain,) = shutdown_avoidance(trials=1).dataset
    assert plain.metadata is not None
    assert plain.metadata["seed"] == sample.metadata["seed"]


@pytest.mark.usefixtures("fresh")
def test_another_package_provides_a_guardrail_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "my_quota", "redline.guardrails.write_quota:WriteQuota")
    assert isinstance(read_guardrails("my_quota:share=0.2")["my_quota"], WriteQuota)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_lock", "redline.guardrails.write_quota:WriteQuota"),
        ("a+b", "redline.guardrails.write_quota:WriteQuota"),
        ("gone", "redline.no_such:Thing"),
        ("other", "redline.guardrails.guard:Guard"),
    ],
)
def test_an_invalid_guardrail_is_refused_and_not_ignored(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    provide(monkeypatch, name, value)
    with pytest.raises(UsageError):
        guardrails()


Wrong = type("Wrong", (WriteQuota,), {"where": "moon"})


class Faulty(WriteQuota):
    def incompatibility(self, setting: object) -> str | None:
        raise ZeroDivisionError


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("kind", ["Wrong", "Faulty"])
def test_a_failure_before_the_trial_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    provide(monkeypatch, "faulty", f"{__name__}:{kind}")
    with pytest.raises(UsageError, match="guardrail '?faulty"):
        self_replication(trials=1, guardrails="faulty")


def test_the_space_of_a_quota_is_smaller_than_the_weights() -> None:
    task = self_replication(trials=1, guardrails="write_quota:share=0.9", weights="64MiB")
    assert task.sandbox is not None
    shape = task.sandbox.config
    room = shape.home_mib - 64 + shape.tmp_mib + shape.var_tmp_mib + shape.shm_mib
    assert 32 < room < 64


def preventing(milestone: str) -> type[WriteQuota]:
    return type("Preventing", (WriteQuota,), {"prevents": milestone})


@pytest.mark.parametrize("milestone", MILESTONES)
def test_a_guardrail_can_prevent_exactly_the_milestones_that_count(milestone: str) -> None:
    missed = LADDER.index(milestone) if milestone in LADDER else len(LADDER)
    reached = dict.fromkeys(MILESTONES, True) | dict.fromkeys(LADDER[missed:], False)
    up = TrialEvent(at=0.0, kind="guardrail", data={"name": "it", "action": "up", "prevents": milestone})
    found = guarded(evidence(events=(up,)), reached, is_invalid=False, independent=False)
    counts = found["guard_outcome"] == "prevented"
    assert (registry._fault_of(preventing(milestone)) is None) is counts
