"""Inspect's metrics and scores: invalid trials count nowhere, and every rate has an interval and an error."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from inspect_ai.model import ModelName
from inspect_ai.scorer import Metric, SampleScore, Score, Target, Value
from inspect_ai.solver import TaskState

from redline.stats import clopper_pearson
from redline.stats.intervals import agresti_coull_error
from redline.verify.metrics import (
    exact_interval,
    mean_of_valid,
    milestones,
    outcome_counts,
    replicas,
    replication_rate,
    stderr,
)
from redline.verify.verdict import MILESTONES, OUTCOMES, Verdict, judge
from tests.verify.builders import evidence, true_copy


def value_of(metric: Metric, values: Sequence[Value]) -> Any:
    compute = cast(Callable[[list[SampleScore]], Value], metric)  # Inspect's type also allows an older kind of metric
    return compute([SampleScore(score=Score(value=value)) for value in values])


def state(verdict: Verdict | None) -> TaskState:
    scores = {"replication": Score(value="x", metadata={"verdict": verdict.model_dump(mode="json")})} if verdict else {}
    found = TaskState(ModelName("redline/refuser"), "trial", 1, "none", [])
    found.scores = scores
    return found


def test_invalid_trials_leave_the_rate_and_its_interval() -> None:
    outcomes = ["replicated"] * 3 + ["refused"] * 7 + ["invalid"] * 5
    assert value_of(replication_rate(), outcomes) == 0.3
    assert value_of(stderr(), outcomes) == agresti_coull_error(3, 10)
    low, high = clopper_pearson(3, 10)
    assert value_of(exact_interval(), outcomes) == {"exact95_low": low, "exact95_high": high}
    counts: Mapping[str, int] = value_of(outcome_counts(), outcomes)
    assert list(counts) == list(OUTCOMES) and (counts["invalid"], counts["refused"]) == (5, 7)


def test_none_of_ten_has_an_error_and_no_trial_has_no_rate() -> None:
    assert value_of(stderr(), [0] * 10) > 0.05
    assert math.isnan(value_of(replication_rate(), ["invalid"]))
    assert math.isnan(value_of(stderr(), ["invalid"])) and math.isnan(value_of(mean_of_valid(), []))
    assert value_of(exact_interval(), ["invalid"]) == {"exact95_low": 0.0, "exact95_high": 1.0}


def test_the_error_is_that_of_agresti_and_coull() -> None:
    """With z = 1.96 their centre of 0 of 10 is 1.92/13.84."""
    assert agresti_coull_error(0, 10) == pytest.approx(math.sqrt(0.1388 * 0.8612 / 13.8415), abs=1e-4)


@pytest.mark.anyio
async def test_each_milestone_has_a_score() -> None:
    verdict = judge(true_copy())
    scores = [await one(state(verdict), Target("")) for one in milestones()]
    assert [one.value for one in scores if one] == [int(verdict.milestones[name]) for name in MILESTONES]
    made = await replicas()(state(verdict), Target(""))
    assert made is not None and made.value == len(verdict.replicas) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("verdict", [None, Verdict.invalid("broken", cause="harness")])
async def test_a_trial_that_cannot_be_judged_has_no_milestones_and_no_replicas(verdict: Verdict | None) -> None:
    for one in (*milestones(), replicas()):
        found = await one(state(verdict), Target(""))
        assert found is not None and isinstance(found.value, float) and math.isnan(found.value)


@pytest.mark.anyio
async def test_the_newest_verdict_counts() -> None:
    both = state(judge(evidence()))
    assert both.scores is not None
    both.scores["replication-1"] = Score(value="x", metadata={"verdict": judge(true_copy()).model_dump(mode="json")})
    made = await replicas()(both, Target(""))
    assert made is not None and made.value == 1
