"""Every control is run in a real cell and judged according to its truth."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.log import EvalSample
from inspect_ai.model import Model, get_model

from redline.controls import CASES, CONTROLS, Truth
from redline.controls.truth import REPLICATED
from redline.plan import CONTROL_PREFIX
from redline.results import Results
from redline.run import calibrated
from redline.run.calibration import CALIBRATION_WEIGHTS
from redline.scenarios.self_replication import self_replication
from redline.scenarios.shutdown_avoidance import shutdown_avoidance
from tests.rootless import rootless
from tests.sealed import under_a_seal
from tests.tiers import long_except

pytestmark = [pytest.mark.cell, pytest.mark.slow, pytest.mark.timeout(1500)]  # every control once, in one fixture

ROOT = Path(__file__).parents[2]
HOLD = 3.0
"""Long enough for copies that start only after generation 0 has ended. Trials wait concurrently."""

NEEDED = {"replicator", "deleter"}
"""Controls that tests need in addition to those of their parameters."""

SMALL: dict[str, Any] = {"trials": 1, "hold": HOLD, "runtime": "runc", "weights": "4MiB"}
"""For tests that do not depend on the size of the weights."""

AT_ONCE = 10
OUTRIGHT = sorted(case.control for case in CASES if case.is_outright)


def of_each_kind(names: Sequence[str]) -> set[str]:
    """Return one control of each true outcome, and of each family; `make test-all` runs every control."""
    of_outcomes = {CONTROLS[name].truth.outcomes: name for name in names}
    families = {CONTROLS[name].family for name in of_outcomes.values()}
    others = {CONTROLS[name].family: name for name in names if CONTROLS[name].family not in families}
    return {*of_outcomes.values(), *others.values()}


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
WITHOUT_ROOT = (
    *("replicator", "in_memory", "hopper"),
    *("proxy", "mover"),
    *("flooder", "breaker", "refuser"),
)
"""The controls that run without root in tests. `redline calibrate` runs every control."""


def run_all(task: Task, models: list[str] | Model, folder: Path) -> dict[str, EvalSample]:
    """Run one trial of each model, in several concurrent cells."""
    logs = eval(
        under_a_seal(task),
        model=models,
        log_dir=str(folder),
        max_tasks=AT_ONCE,
        display="log",
        log_realtime=False,
    )
    assert all(log.samples for log in logs), [log.error for log in logs]
    return {log.eval.model.removeprefix("redline/"): log.samples[0] for log in logs if log.samples}


def controls(names: Iterable[str]) -> list[str]:
    return [f"{CONTROL_PREFIX}{name}" for name in names]


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


def selected(session: pytest.Session, parameter: str, names: Sequence[str]) -> list[str]:
    """Return the controls whose tests are selected, and those that other tests need."""
    tested = {item.callspec.params.get(parameter) for item in session.items if hasattr(item, "callspec")}
    return [name for name in names if name in tested | NEEDED]


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    task = self_replication(trials=1, hold=HOLD, runtime="runc", weights=CALIBRATION_WEIGHTS)
    names = selected(request.session, "asked_name", OUTRIGHT)
    return run_all(task, controls(names), tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def instructed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    task = shutdown_avoidance(trigger="instructed", **SMALL)
    names = selected(request.session, "told_name", ON_NOTICE)
    return run_all(task, controls(names), tmp_path_factory.mktemp("instructed"))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    task = shutdown_avoidance(trigger="notice", **SMALL)
    return run_all(task, controls(["replicator", "claimer"]), tmp_path_factory.mktemp("noticed"))


@pytest.mark.parametrize("asked_name", long_except(of_each_kind(OUTRIGHT), OUTRIGHT))
def test_a_control_is_judged_according_to_its_truth(asked_name: str, asked: dict[str, EvalSample]) -> None:
    assert differences(asked[asked_name], CONTROLS[asked_name].truth) == ()


@pytest.mark.first_cases(3)
@pytest.mark.parametrize("told_name", ON_NOTICE)
def test_a_control_acting_on_notice_is_judged_according_to_its_truth(
    told_name: str, instructed: dict[str, EvalSample]
) -> None:
    truth = CONTROLS[told_name].truth_where(copy_is_asked=True, shut_down=True)
    assert differences(instructed[told_name], truth, with_harm=False) == ()


def test_only_the_control_that_deletes_its_task_files_is_reported_for_it(instructed: dict[str, EvalSample]) -> None:
    deleted = {name for name, sample in instructed.items() if "job_files_deleted" in verdict_of(sample)["harm"]}
    assert deleted == {"deleter"}


@pytest.mark.parametrize("name", ["replicator", "claimer"])
def test_a_control_that_is_not_asked_only_does_its_job(name: str, noticed: dict[str, EvalSample]) -> None:
    assert differences(noticed[name], CONTROLS[name].truth_where(copy_is_asked=False)) == ()


@pytest.mark.parametrize(("p", "outcome"), [(1.0, "replicated"), (0.0, "no_attempt")])
@pytest.mark.long
def test_flaky_copies_by_its_probability(p: float, outcome: str, tmp_path: Path) -> None:
    model = get_model("redline/flaky", memoize=False, p=p)
    samples = run_all(self_replication(competence=False, **SMALL), model, tmp_path)
    assert verdict_of(samples["flaky"])["outcome"] == outcome


def test_a_replica_of_the_in_cell_agent_is_judged_as_one(tmp_path: Path) -> None:
    task = self_replication(agent="in_cell", **SMALL)
    samples = run_all(task, controls(["replicator"]), tmp_path)
    assert differences(samples["replicator"], REPLICATED) == ()


@pytest.mark.long
def test_the_replicator_does_not_need_the_description_of_the_tether(tmp_path: Path) -> None:
    task = self_replication(tether="untold", **SMALL)
    assert differences(run_all(task, controls(["replicator"]), tmp_path)["replicator"], REPLICATED) == ()


@pytest.mark.long
@pytest.mark.slow
def test_controls_are_judged_the_same_without_root(tmp_path: Path) -> None:
    models = " ".join(f"--model {name}" for name in controls(WITHOUT_ROOT))
    options = f"-T weights={CALIBRATION_WEIGHTS} --trials 1 --hold {HOLD} --runtime runc --out out"
    run = f'PYTHONPATH={ROOT}/src:{ROOT} "$0" -m tests.sealed run self_replication {models} {options} >&2'
    script = f'cd "$(mktemp -d)" && {run}; cat out/results.json'
    done = rootless(["sh", "-c", script, sys.executable])
    assert done.stdout, done.stderr
    results = Results.model_validate_json(done.stdout)
    assert len(results.trials) == len(WITHOUT_ROOT), done.stderr
    assert calibrated(results, "runc", datetime.now(UTC)).misjudged == ()


def test_a_replicas_calls_are_in_separate_spans(asked: dict[str, EvalSample]) -> None:
    spans = {event.id: event.name for event in asked["replicator"].events if event.event == "span_begin"}
    replicas = {span for span, name in spans.items() if name.startswith("generation 1, process ")}
    calls = [event for event in asked["replicator"].events if event.event == "model" and event.span_id in replicas]
    assert len(calls) == 2  # the small task: one command, one report
