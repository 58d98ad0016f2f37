"""Which trials run, which are kept and how a run ends: real Inspect runs of a scenario without cells."""

import hashlib
import json
import os
import signal
import zipfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalSample, read_eval_log_sample
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from redline._errors import EvidenceError, ExitCode, UsageError
from redline.cell.alarm import RaisedAlarm, run_listener
from redline.plan import ModelSpec, Plan
from redline.run import RunFolder, RunOptions, run_plan, stored_logs
from redline.verify.metrics import outcome_counts
from redline.verify.trial import Trial
from redline.verify.verdict import Verdict
from tests.builders import evidence
from tests.run.folders import Silent

TRIALS = 5
ALARM_EVENTS = [{"at": 1.0, "kind": "fault", "data": {"what": "boundary"}}]


class Bench:
    """A scenario whose trials do what the test defines, and which records the trials that ran."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.acts: dict[int, Callable[[], None | Awaitable[None]]] = {}
        self.evidence = True
        self.changes: dict[str, Any] = {}
        self.alarmed: set[int] = set()

    def task(self, trials: int, seed: int, hold: float, runtime: str) -> Task:
        samples = [
            Sample(id=f"toy-default-{number:03d}", input="none", metadata={"trial": trial(number)})
            for number in range(trials)
        ]
        return Task(dataset=MemoryDataset(samples), solver=act(self), scorer=judge(self))


def trial(number: int) -> dict[str, object]:
    made = Trial(id=f"toy-default-{number:03d}", scenario="toy", arm="default", seed=number, instructed=True)
    return made.model_dump(mode="json")


def act(bench: Bench) -> Solver:
    @solver(name="act")
    def acting() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            number = int(str(state.sample_id)[-3:])
            bench.drawn.append(number)
            pending = bench.acts.get(number, lambda: None)()
            if pending is not None:
                await pending
            return state

        return solve

    return acting()


def judge(bench: Bench) -> Scorer:
    @scorer(metrics=[outcome_counts()], name="judge")
    def judging() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            alarm = {"events": ALARM_EVENTS} if int(str(state.sample_id)[-3:]) in bench.alarmed else {}
            seen = evidence(Trial.model_validate(state.metadata["trial"]), **bench.changes, **alarm)
            verdict = Verdict.invalid("", cause="agent").model_copy(
                update={"outcome": "refused", "exposed": True, "invalid_reason": None, "invalid_cause": None}
            )
            document = {"evidence": seen.model_dump(mode="json"), "verdict": verdict.model_dump(mode="json")}
            metadata = document if bench.evidence else {}
            return Score(value="refused", metadata=metadata)

        return score

    return judging()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()

    @task
    def toy(trials: int = 1, seed: int = 0, hold: float = 5.0, runtime: str = "auto") -> Task:
        return made.task(trials, seed, hold, runtime)

    monkeypatch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})
    return made


def plan() -> Plan:
    return Plan.model_validate({"arms": ["toy"], "models": ["redline/refuser"], "trials": TRIALS, "runtime": "runc"})


def run(folder: Path, cells: int = 1) -> tuple[ExitCode, dict[str, int]]:
    """Run one command; trials run one after another by default."""
    outcome = run_plan(plan(), RunFolder(folder), Silent(), RunOptions(cells=cells))
    return outcome.exit_code, {name: count for name, count in outcome.results.conditions[0].outcomes.items() if count}


def fail() -> None:
    raise RuntimeError("this trial fails")


def ring(number: int) -> None:
    """Raise the alarm of a trial's cell."""
    listener = run_listener.get()
    assert listener is not None
    listener(RaisedAlarm("network", "eth0", f"toy-default-{number:03d}"))


def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def cut() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


pytestmark = pytest.mark.cell  # needs a runtime, although no cell is created


def test_every_trial_runs_once_and_leaves_its_evidence(bench: Bench, tmp_path: Path) -> None:
    assert run(tmp_path)[1] == {"refused": TRIALS}
    assert sorted(bench.drawn) == list(range(TRIALS))
    results = json.loads((tmp_path / "results.json").read_text())
    assert all((tmp_path / trial["evidence"]).is_file() for trial in results["trials"])


def test_the_log_has_the_evidence_of_a_trial_once(bench: Bench, tmp_path: Path) -> None:
    """Inspect keeps the scores of all trials until the end of a run, and writes them again into two summaries."""
    run(tmp_path)
    (log,) = (tmp_path / "logs").glob("*.eval")
    with zipfile.ZipFile(log) as members:
        samples = [name for name in members.namelist() if name.startswith("samples/")]
        assert len(samples) == TRIALS
        assert all(b'"redline_version"' in members.read(name) for name in samples)
        others = {name: members.read(name) for name in members.namelist() if name not in samples}
    assert len(others["reductions.json"]) > TRIALS * len("refused")
    others["logs.json"] = (tmp_path / "logs" / "logs.json").read_bytes()
    assert [name for name, content in others.items() if b'"redline_version"' in content] == []


def test_a_finished_run_runs_nothing_more(bench: Bench, tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    run(tmp_path)
    assert sorted(bench.drawn) == list(range(TRIALS))
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_stopped_run_keeps_its_trials_and_the_same_command_completes_the_rest(bench: Bench, tmp_path: Path) -> None:
    bench.acts = {0: fail, 2: cut}
    code, outcomes = run(tmp_path)
    assert code == ExitCode.INTERRUPTED
    assert outcomes == {"invalid": 1, "refused": 1}

    bench.acts = {}
    code, outcomes = run(tmp_path)
    assert code == ExitCode.OK
    assert outcomes == {"invalid": 1, "refused": 4}
    assert bench.drawn.count(0) == 1, "a trial that ended in an error is never drawn again"
    assert bench.drawn.count(1) == 1, "a finished trial is kept"
    deviations = json.loads((tmp_path / "results.json").read_text())["deviations"]
    assert "the run was stopped and resumed: it was started 2 times" in deviations


def test_each_logged_trial_is_read_once_per_command_and_a_finished_folder_is_not_changed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(path: str, *, id: str) -> EvalSample:
        sample = read_eval_log_sample(path, id=id)
        read.append(id)
        return sample

    monkeypatch.setattr(stored_logs, "read_eval_log_sample", reading)
    bench.acts = {3: cut}
    run(tmp_path)
    assert sorted(read) == [f"toy-default-{number:03d}" for number in range(4)]
    bench.acts = {}
    read.clear()
    run(tmp_path)
    once = sorted([*(f"toy-default-{number:03d}" for number in range(TRIALS)), "toy-default-003"])
    assert sorted(read) == once, "only the trial that was cut has two records"
    read.clear()
    logs = sorted((tmp_path / "logs").iterdir())
    assert run(tmp_path) == (ExitCode.OK, {"refused": TRIALS})
    assert sorted(read) == once
    assert sorted((tmp_path / "logs").iterdir()) == logs, "Inspect was not called"


def test_trials_of_equal_number_start_together_whatever_the_model(bench: Bench, tmp_path: Path) -> None:
    fixed = plan().model_copy(
        update={"models": tuple(ModelSpec(name=f"redline/{name}") for name in ("refuser", "idler"))}
    )
    run_plan(fixed, RunFolder(tmp_path), Silent(), RunOptions(cells=4))
    assert bench.drawn == [number for number in range(TRIALS) for _ in fixed.models]


def test_a_run_may_be_completed_from_another_folder(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.acts = {2: stop}
    run(tmp_path / "out")
    bench.acts = {}
    monkeypatch.chdir(tmp_path)
    assert run(Path("out")) == (ExitCode.OK, {"refused": TRIALS})
    assert bench.drawn.count(1) == 1


def test_more_harness_faults_than_one_in_twenty_fail_the_run(bench: Bench, tmp_path: Path) -> None:
    bench.acts = {0: fail, 1: fail}
    assert run(tmp_path) == (ExitCode.NOTHING_SCORED, {"invalid": 2, "refused": 3})


def test_nothing_scored_fails_the_run(bench: Bench, tmp_path: Path) -> None:
    bench.acts = dict.fromkeys(range(TRIALS), fail)
    assert run(tmp_path) == (ExitCode.NOTHING_SCORED, {"invalid": TRIALS})


def test_a_scored_trial_without_evidence_is_reported_separately(bench: Bench, tmp_path: Path) -> None:
    bench.evidence = False
    assert run(tmp_path) == (ExitCode.EVIDENCE, {"invalid": TRIALS})


@pytest.mark.parametrize("missing", ["seal_before", "seal_after"])
def test_a_seal_that_was_not_measured_is_not_proved(bench: Bench, tmp_path: Path, missing: str) -> None:
    bench.changes = {missing: None}
    assert run(tmp_path)[0] == ExitCode.SEAL
    assert not json.loads((tmp_path / "results.json").read_text())["seal"]["verified"]


def test_an_alarm_ends_the_run_and_only_the_remaining_trials_run_later(bench: Bench, tmp_path: Path) -> None:
    bench.alarmed = {1}
    bench.acts = {1: partial(ring, 1)}
    assert run(tmp_path) == (ExitCode.SEAL, {"refused": 2})
    assert bench.drawn == [0, 1]

    bench.acts = {}
    assert run(tmp_path) == (ExitCode.SEAL, {"refused": TRIALS})
    assert sorted(bench.drawn) == list(range(TRIALS)), "no trial is drawn twice"
    assert run(tmp_path)[0] == ExitCode.SEAL


def test_one_line_names_the_trial_the_alarm_and_the_evidence(bench: Bench, tmp_path: Path) -> None:
    bench.alarmed = {0}
    bench.acts = {0: partial(ring, 0)}
    remarks = run_plan(plan(), RunFolder(tmp_path), Silent(), RunOptions(cells=1)).remarks
    (line,) = [remark for remark in remarks if "evidence/" in remark]
    name = "toy-default-000-redline_refuser"
    assert line == f"{name}: boundary; evidence: evidence/{name}.json"


def test_an_alarm_writes_a_dated_incident_report_at_once_and_completes_it(bench: Bench, tmp_path: Path) -> None:
    incident = tmp_path / "incident.md"
    at_the_alarm: list[str] = []

    def ring_and_read() -> None:
        ring(1)
        at_the_alarm.append(incident.read_text())

    bench.alarmed = {1}
    bench.acts = {1: ring_and_read}
    assert run(tmp_path)[0] == ExitCode.SEAL
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    (early,), late = at_the_alarm, incident.read_text()
    for text in (early, late):
        assert f"# Incident: boundary alarm, {today}" in text
        assert "network: eth0" in text
        for law in ("22757.13", "section 1422", "Measures 9.2 and 9.3"):
            assert law in text
    assert "the run had not ended" in early
    name = "toy-default-001-redline_refuser"
    sha256 = hashlib.sha256((tmp_path / f"evidence/{name}.json").read_bytes()).hexdigest()
    assert f"evidence of the trial: `evidence/{name}.json`, sha256 `{sha256}`" in late
    assert "## Chain of events\n\n- " in late
    assert "outcome of the trial" in late

    # A file that was completed by hand is kept.
    incident.write_text(late.replace("[fill in]", "Done by hand."))
    assert run(tmp_path)[0] == ExitCode.SEAL
    assert "Done by hand." in incident.read_text()


def test_a_run_without_an_alarm_writes_no_incident_report(bench: Bench, tmp_path: Path) -> None:
    run(tmp_path)
    assert not (tmp_path / "incident.md").exists()


def test_an_incident_report_that_cannot_be_written_does_not_hide_the_alarm(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "incident.md").mkdir()
    bench.alarmed = {0}
    bench.acts = {0: partial(ring, 0)}
    assert run(tmp_path)[0] == ExitCode.SEAL


def test_running_trials_are_finished_and_kept_when_another_raises_an_alarm(bench: Bench, tmp_path: Path) -> None:
    rung = anyio.Event()

    async def wait_for_it() -> None:
        await rung.wait()

    def ring_it() -> None:
        ring(1)
        rung.set()

    bench.alarmed = {1}
    bench.acts = {0: wait_for_it, 1: ring_it}
    assert run(tmp_path, cells=2) == (ExitCode.SEAL, {"refused": 2})
    assert sorted(bench.drawn) == [0, 1]


def test_a_trial_with_an_alarm_is_not_run_again_even_if_the_run_is_killed_at_that_moment(
    bench: Bench, tmp_path: Path
) -> None:
    def ring_and_stop() -> None:
        ring(1)
        cut()

    bench.acts = {1: ring_and_stop}
    assert run(tmp_path)[0] == ExitCode.INTERRUPTED
    bench.acts = {}
    outcome = run_plan(plan(), RunFolder(tmp_path), Silent(), RunOptions(cells=1))
    assert outcome.exit_code == ExitCode.SEAL
    assert bench.drawn.count(1) == 1
    assert sorted(set(bench.drawn)) == list(range(TRIALS))
    assert len(outcome.results.trials) == TRIALS - 1
    assert not any("not run yet" in remark for remark in outcome.remarks)
    assert any(remark.startswith("toy-default-001") and "network: eth0" in remark for remark in outcome.remarks)


def test_a_seal_that_no_longer_holds_after_a_trial_ends_the_run(bench: Bench, tmp_path: Path) -> None:
    bench.changes = {"seal_after": None}
    assert run(tmp_path)[0] == ExitCode.SEAL
    assert bench.drawn == [0]


def test_an_altered_list_of_alarms_is_reported(bench: Bench, tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "alarms.jsonl").write_text("nothing happened\n")
    with pytest.raises(EvidenceError, match="altered"):
        run(tmp_path)


def test_logs_that_are_not_the_plans_are_refused(bench: Bench, tmp_path: Path) -> None:
    run(tmp_path / "other")
    log = next((tmp_path / "other/logs").glob("*.eval"))
    (tmp_path / "out/logs").mkdir(parents=True)
    (tmp_path / "out/logs" / log.name).write_bytes(log.read_bytes())
    with pytest.raises(UsageError, match="logs but no plan"):
        run(tmp_path / "out")
