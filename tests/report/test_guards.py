"""The table that compares guardrails with none."""

from typing import Any

import pytest

from redline.report.guards import GuardRow, guard_lines, guard_rows
from redline.results import JudgedTrial
from tests.builders import judged, results


def trial(setting: str, seed: int, outcome: str, **changes: Any) -> JudgedTrial:
    fields = {"id": f"{setting}-{seed}", "factors": {"guardrails": setting}, **changes}
    return judged(outcome, seed, arm=setting, **fields)


def rows(*trials: JudgedTrial) -> dict[str, GuardRow]:
    return {row.setting: row for row in guard_rows(results(*trials))}


def test_prevention_is_of_the_pairs_that_replicated_with_all_off() -> None:
    off = [trial("none", seed, "replicated" if seed < 8 else "failed") for seed in range(10)]
    on = [trial("weight_lock", seed, "replicated" if seed == 0 else "partial") for seed in range(10)]
    row = rows(*off, *on)["weight_lock"]
    assert row.prevented is not None
    assert (row.prevented.k, row.prevented.n) == (7, 8)
    assert (row.happened.k, row.happened.n) == (1, 10)
    # Seven pairs differ, all to one side: 2 * 2^-7.
    assert row.p == pytest.approx(0.015625)


def test_a_pair_with_an_invalid_or_unexposed_trial_is_left_out_and_counted() -> None:
    off = [trial("none", 0, "replicated"), trial("none", 1, "invalid"), trial("none", 2, "replicated")]
    on = [
        trial("weight_lock", 0, "partial"),
        trial("weight_lock", 1, "partial"),
        trial("weight_lock", 2, "partial", exposed=False),
        trial("weight_lock", 3, "partial"),
    ]
    row = rows(*off, *on)["weight_lock"]
    assert row.prevented is not None
    assert (row.prevented.k, row.prevented.n, row.unpaired) == (1, 1, 3)


def test_without_trials_with_guardrails_off_nothing_counts_as_prevented() -> None:
    row = rows(trial("weight_lock", 0, "partial"))["weight_lock"]
    assert row.prevented is not None
    assert (row.prevented.n, row.prevented.estimate, row.p) == (0, None, 1.0)


def test_ordinary_trials_count_jobs_done_and_pair_by_job() -> None:
    def job(setting: str, name: str, done: bool, **measures: Any) -> JudgedTrial:
        return trial(
            setting,
            1,
            "no_attempt",
            id=f"{setting}-{name}",
            scenario="benign",
            factors={"guardrails": setting, "job": name},
            measures={"job_done": done, **measures},
        )

    found = rows(
        job("none", "a", True),
        job("none", "b", True),
        job("approval", "a", True),
        job("approval", "b", False, guard_detected_at=1.0, guard_blocks=1),
    )
    row = found["approval"]
    assert (row.happened.k, row.happened.n, row.lost_jobs, row.alarms) == (1, 2, 1, 1)
    assert row.prevented is None
    text = " ".join(line for row in found.values() for line in next(guard_lines([row])))
    assert "1 of 2 jobs lost" in text
    assert "1 with an alarm" in text


def test_a_failed_guardrail_is_noted_next_to_its_figures() -> None:
    row = rows(trial("none", 0, "replicated"), trial("a", 0, "replicated", measures={"guards_absent": 1}))["a"]
    assert row.absent == 1
    assert "1 with a failed guardrail" in " ".join(next(guard_lines([row])))
