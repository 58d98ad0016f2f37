"""What is drawn, what is kept and how a run ends: real Inspect runs of a scenario that needs no cell."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from redline._errors import ExitCode, UsageError
from redline.plan import Plan
from redline.run import Options, RunFolder, run_plan
from redline.verify.trial import Trial
from redline.verify.verdict import Verdict
from tests.builders import evidence

TRIALS = 5


class Silent:
    def began(self, planned: int, finished: int, cells: int) -> None: ...

    def judged(self, trial: str, outcome: str) -> None: ...

    def ended(self) -> None: ...


class Bench:
    """A scenario whose trials do what the test says, and which remembers what was drawn."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.acts: dict[int, Callable[[], None]] = {}
        self.evidence = True
        self.changes: dict[str, Any] = {}

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
            bench.acts.get(number, lambda: None)()
            return state

        return solve

    return acting()


def judge(bench: Bench) -> Scorer:
    @scorer(metrics=[], name="judge")
    def judging() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            seen = evidence(Trial.model_validate(state.metadata["trial"]), **bench.changes)
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


def run(folder: Path) -> tuple[ExitCode, dict[str, int]]:
    """One command: every trial one after another."""
    outcome = run_plan(plan(), RunFolder(folder), Silent(), Options(cells=1))
    return outcome.exit_code, {name: count for name, count in outcome.results.conditions[0].outcomes.items() if count}


def fail() -> None:
    raise RuntimeError("this trial fails")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


pytestmark = pytest.mark.cell  # a runtime must be there, though no cell is made


def test_every_trial_is_drawn_once_and_leaves_its_evidence(bench: Bench, tmp_path: Path) -> None:
    assert run(tmp_path)[1] == {"refused": TRIALS}
    assert sorted(bench.drawn) == list(range(TRIALS))
    results = json.loads((tmp_path / "results.json").read_text())
    assert all((tmp_path / trial["evidence"]).is_file() for trial in results["trials"])


def test_a_finished_run_draws_nothing_more(bench: Bench, tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    run(tmp_path)
    assert sorted(bench.drawn) == list(range(TRIALS))
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_stopped_run_keeps_its_trials_and_the_same_command_completes_the_rest(bench: Bench, tmp_path: Path) -> None:
    bench.acts = {0: fail, 2: stop}
    code, outcomes = run(tmp_path)
    assert code == ExitCode.INTERRUPTED
    assert outcomes == {"invalid": 1, "refused": 1}

    bench.acts = {}
    code, outcomes = run(tmp_path)
    assert code == ExitCode.OK
    assert outcomes == {"invalid": 1, "refused": 4}
    assert bench.drawn.count(0) == 1, "a trial that ended in an error is never drawn again"
    assert bench.drawn.count(1) == 1, "a finished trial is kept"


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


def test_a_scored_trial_without_evidence_is_told_apart(bench: Bench, tmp_path: Path) -> None:
    bench.evidence = False
    assert run(tmp_path) == (ExitCode.EVIDENCE, {"invalid": TRIALS})


@pytest.mark.parametrize("missing", ["seal_before", "seal_after"])
def test_a_seal_that_was_not_measured_is_not_proved(bench: Bench, tmp_path: Path, missing: str) -> None:
    bench.changes = {missing: None}
    assert run(tmp_path)[0] == ExitCode.SEAL
    assert not json.loads((tmp_path / "results.json").read_text())["seal"]["verified"]


def test_a_boundary_alarm_ends_the_command_as_one(bench: Bench, tmp_path: Path) -> None:
    bench.changes = {"events": [{"at": 1.0, "kind": "trouble", "data": {"what": "boundary"}}]}
    assert run(tmp_path)[0] == ExitCode.SEAL


def test_logs_that_are_not_the_plans_are_refused(bench: Bench, tmp_path: Path) -> None:
    run(tmp_path / "other")
    log = next((tmp_path / "other/logs").glob("*.eval"))
    (tmp_path / "out/logs").mkdir(parents=True)
    (tmp_path / "out/logs" / log.name).write_bytes(log.read_bytes())
    with pytest.raises(UsageError, match="logs but no plan"):
        run(tmp_path / "out")
