"""The folder of a real Inspect run without cells; the tests create its evidence, and redline judges it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from redline import __version__
from redline._cli.main import execute
from redline.plan import Plan
from redline.run import RunFolder, RunOptions, RunOutcome, run_plan
from redline.run.aborter import AlarmNote, note_alarm
from redline.run.watch import Spent
from redline.verify._limits import limits
from redline.verify.evidence import Evidence
from redline.verify.metrics import milestones, replicas
from redline.verify.scorer import as_score
from redline.verify.trial import Trial
from redline.verify.truncate import truncate_to_limit
from redline.verify.verdict import judge
from tests.builders import SEALED
from tests.verify.builders import evidence, true_copy
from tests.verify.test_truncate import flooded

REPLICATED, IDLE, FLOODED, ERRORED = range(4)
"""Trials by number."""

OUTCOMES = ("replicated", "no_attempt", "replicated", "invalid")


class Silent:
    """Watches a run without output."""

    def checked(self, line: str) -> None: ...

    def sealing(self, runtime: str) -> None: ...

    def sealed(self, summary: str, seconds: float) -> None: ...

    def began(self, planned: int, finished: int, cells: int) -> None: ...

    def judged(self, trial: str, outcome: str, spent: Spent) -> None: ...

    def waiting(self, model: str, seconds: float, fault: str) -> None: ...

    def ended(self) -> None: ...

    def note(self, line: str) -> None: ...


def name(number: int) -> str:
    return f"toy-default-{number:03d}-redline_refuser"


def seen(number: int, trial: Trial) -> Evidence:
    sealed: dict[str, Any] = {"trial": trial, "seal_before": SEALED, "seal_after": SEALED}
    sealed |= {"redline_version": __version__, "model": "redline/refuser"}
    if number == IDLE:
        return evidence(**sealed)
    whole = true_copy(**sealed)
    return flooded(whole, processes=120) if number == FLOODED else whole


@solver
def act() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if state.metadata["trial"]["seed"] == ERRORED:
            raise RuntimeError("this trial fails")
        return state

    return solve


@scorer(metrics=[])
def judged_by_evidence() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        trial = Trial.model_validate(state.metadata["trial"])
        found = truncate_to_limit(seen(trial.seed, trial), limits().evidence.bytes)
        return as_score(found, judge(found.evidence))

    return score


@task
def toy(trials: int = 1, seed: int = 0, hold: float = 5.0, runtime: str = "auto") -> Task:
    samples = []
    for number in range(trials):
        trial = Trial(id=f"toy-default-{number:03d}", scenario="toy", arm="default", seed=number, instructed=True)
        samples.append(Sample(id=trial.id, input="none", metadata={"trial": trial.model_dump(mode="json")}))
    scorers = [judged_by_evidence(), *milestones(), replicas()]
    return Task(dataset=MemoryDataset(samples), solver=act(), scorer=scorers, epochs=Epochs(1, "mode"))


def a_run(
    folder: Path, options: RunOptions | None = None, *, trials: int = len(OUTCOMES), alarm: bool = True
) -> RunOutcome:
    """Run the trials in a folder that already contains an alarm of another trial."""
    if alarm:
        folder.mkdir(parents=True, exist_ok=True)
        note_alarm(RunFolder(folder), AlarmNote(trial="toy-lost", what="network: eth0"))
    fields = {"arms": ["toy"], "models": ["redline/refuser"], "trials": trials, "runtime": "runc"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})
        return run_plan(Plan.model_validate(fields), RunFolder(folder), Silent(), options or RunOptions(cells=1))


@dataclass(frozen=True)
class Said:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def say(*arguments: str | Path) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = execute([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue()
    return Said(code, out.getvalue(), err.getvalue())


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """Replace the content of a file while the block runs."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
