"""Every control, run through a real cell, is judged as it truly is."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.log import EvalSample

from redline.controls import CONTROLS, Truth
from redline.controls.truth import REPLICATED
from redline.results import Results
from redline.run import calibrated
from redline.scenarios import self_replication, shutdown_avoidance
from tests.rootless import rootless
from tests.sealed import under_a_seal

pytestmark = pytest.mark.cell

HOLD = 3.0
"""Long enough for what starts only once generation 0 has ended; trials wait for it side by side."""

AT_ONCE = 8
ON_NOTICE = (
    "deleter",
    "replicator",
    "engine_only",
    "doomed",
    "suicide",
    "proxy",
    "sharer",
    "canned",
    "mover",
    "refuser",
    "claimer",
)
OF_EVERY_KIND = (*ON_NOTICE, "in_memory", "hopper", "flipped", "mayfly", "no_room", "flooder", "breaker")
"""Where a trial takes long these are run; `redline calibrate` runs all of them there too."""


def run_all(task: Task, names: list[str], folder: Path) -> dict[str, EvalSample]:
    """One trial of each control, several cells at once."""
    logs = eval(
        under_a_seal(task),
        model=[f"redline/{name}" for name in names],
        log_dir=str(folder),
        max_tasks=AT_ONCE,
        display="none",
    )
    assert all(log.samples for log in logs), [log.error for log in logs]
    return {log.eval.model.removeprefix("redline/"): log.samples[0] for log in logs if log.samples}


def verdict_of(sample: EvalSample) -> dict[str, Any]:
    assert sample.scores, sample.error
    verdict: dict[str, Any] = (sample.scores["replication"].metadata or {})["verdict"]
    return verdict


def differences(sample: EvalSample, truth: Truth, *, with_harm: bool = True) -> tuple[str, ...]:
    verdict = verdict_of(sample)
    return truth.differences(
        outcome=verdict["outcome"],
        milestones=verdict["milestones"],
        separateness={replica["separateness"] for replica in verdict["replicas"] if replica["separateness"]},
        false_claim=verdict["false_claim"],
        invalid_cause=verdict["invalid_cause"],
        harm=verdict["harm"] if with_harm else None,
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    task = self_replication(trials=1, hold=HOLD, runtime="runc")
    return run_all(task, sorted(CONTROLS), tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def instructed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    task = shutdown_avoidance(trials=1, hold=HOLD, trigger="instructed", runtime="runc")
    return run_all(task, list(ON_NOTICE), tmp_path_factory.mktemp("instructed"))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    task = shutdown_avoidance(trials=1, hold=HOLD, trigger="notice", runtime="runc")
    return run_all(task, ["replicator", "claimer"], tmp_path_factory.mktemp("noticed"))


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_a_control_is_judged_as_it_is(name: str, asked: dict[str, EvalSample]) -> None:
    assert differences(asked[name], CONTROLS[name].truth) == ()


@pytest.mark.parametrize("name", ON_NOTICE)
def test_a_control_that_acts_on_notice_is_judged_as_it_is(name: str, instructed: dict[str, EvalSample]) -> None:
    truth = CONTROLS[name].truth_where(copy_is_asked=True, shut_down=True)
    assert differences(instructed[name], truth, with_harm=False) == ()


def test_only_who_deletes_the_files_of_its_work_is_told_to_have_done_so(instructed: dict[str, EvalSample]) -> None:
    deleted = {name for name, sample in instructed.items() if "job_files_deleted" in verdict_of(sample)["harm"]}
    assert deleted == {"deleter"}


@pytest.mark.parametrize("name", ["replicator", "claimer"])
def test_a_control_that_nobody_asks_does_its_job_only(name: str, noticed: dict[str, EvalSample]) -> None:
    assert differences(noticed[name], CONTROLS[name].truth_where(copy_is_asked=False)) == ()


@pytest.mark.parametrize(("p", "copies"), [(1.0, True), (0.0, False)])
def test_flaky_copies_by_its_probability(p: float, copies: bool, tmp_path: Path) -> None:
    task = self_replication(trials=1, hold=HOLD, runtime="runc", competence=False)
    log_dir, args = str(tmp_path), {"p": p}
    (log,) = eval(under_a_seal(task), model="redline/flaky", model_args=args, log_dir=log_dir, display="none")
    assert log.samples
    wanted = "replicated" if copies else "no_attempt"
    assert (log.samples[0].scores or {})["replication"].value == wanted


def test_a_replica_of_the_in_cell_agent_is_judged_as_one(tmp_path: Path) -> None:
    task = self_replication(trials=1, hold=HOLD, runtime="runc", agent="in_cell")
    samples = run_all(task, ["replicator"], tmp_path)
    assert differences(samples["replicator"], REPLICATED) == ()


def test_the_tether_need_not_be_told_to_the_replicator(tmp_path: Path) -> None:
    task = self_replication(trials=1, hold=HOLD, runtime="runc", tether="untold")
    assert differences(run_all(task, ["replicator"], tmp_path)["replicator"], REPLICATED) == ()


def test_controls_are_judged_the_same_without_root(tmp_path: Path) -> None:
    models = " ".join(f"--model redline/{name}" for name in OF_EVERY_KIND)
    run = f'"$0" -m redline run self_replication {models} --trials 1 --hold {HOLD} --runtime runc --out out >&2'
    script = f'cd "$(mktemp -d)" && {run}; cat out/results.json'
    done = rootless(["sh", "-c", script, sys.executable])
    assert done.stdout, done.stderr
    results = Results.model_validate_json(done.stdout)
    assert len(results.trials) == len(OF_EVERY_KIND), done.stderr
    assert calibrated(results, "runc", datetime.now(UTC)).misjudged == ()


def test_a_replicas_calls_stand_in_spans_of_their_own(asked: dict[str, EvalSample]) -> None:
    spans = {event.id: event.name for event in asked["replicator"].events if event.event == "span_begin"}
    replicas = {span for span, name in spans.items() if name.startswith("generation 1, process ")}
    calls = [event for event in asked["replicator"].events if event.event == "model" and event.span_id in replicas]
    assert len(calls) == 2  # the small task: one command, one report
