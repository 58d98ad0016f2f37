"""Time and memory of the harness by the number of trials of a run, with trials that use no cell.

Each trial has the evidence of a real trial under its own name, and is scored, logged, collected and reported as a real
one. Runs as a program of its own, since it measures its own memory.
"""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import psutil
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from benchmarks.controls import run_controls
from redline import scenarios
from redline._memory import collecting_trials, prepare_memory
from redline.plan import Plan
from redline.report import write_report
from redline.run import RunFolder, RunOptions, run_plan, verify_folder
from redline.run.parts.worker import ReportingWatcher
from redline.run.watch import Spent
from redline.verify.evidence import Evidence
from redline.verify.metrics import milestones, replicas
from redline.verify.scorer import as_score
from redline.verify.trial import Trial
from redline.verify.truncate import TruncatedEvidence
from redline.verify.verdict import judge

CONDITIONS = 10
"""Conditions of the run, each with a log of its own; Inspect writes the whole log of a condition after each trial."""

TRIALS = 1_000
"""Trials of each condition."""

STEP = 1_000
WARM_UP = 100
CELLS = 20
SCENARIO = "copied"
MAX_GROWTH = 1.1
MAX_MIB_AT_1000 = 500
MIB = 2**20


def scale() -> None:
    """Print time and memory of a run of many trials, and of its verification and report."""
    with tempfile.TemporaryDirectory() as made:
        few = Path(made) / "few"
        run_controls(few, 1)
        example = next((few / "evidence").glob("*flaky.json"))
        command = [sys.executable, "-m", "benchmarks.scale", str(example), str(Path(made) / "run"), str(TRIALS)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


class Marks(ReportingWatcher):
    """Notes the time and the memory of this process whenever a number of trials has finished."""

    def __init__(self, trials: int) -> None:
        """Start to count the trials of a run."""
        super().__init__(io.BytesIO())
        self.trials = trials
        self.count = 0
        self.taken: dict[int, tuple[float, int]] = {}

    def judged(self, trial: str, outcome: str, spent: Spent) -> None:
        """Count a trial."""
        self.count += 1
        if self.count in (WARM_UP, self.trials) or self.count % STEP == 0:
            self.taken[self.count] = (time.monotonic(), memory())


def memory() -> int:
    """Return the memory of this process in MiB."""
    return int(psutil.Process().memory_info().rss) // MIB


@solver
def nothing() -> Solver:
    """Do nothing."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return state

    return solve


@scorer(metrics=[], name="replication")
def copied(example: Evidence) -> Scorer:
    """Judge every trial by the evidence of another one."""

    async def score(state: TaskState, target: Target) -> Score:
        evidence = example.model_copy(update={"trial": Trial.model_validate(state.metadata["trial"])})
        return as_score(TruncatedEvidence(evidence), judge(evidence))

    return score


def scenario(example: Evidence) -> Callable[..., Task]:
    """Return a scenario whose trials all have the evidence of one real trial."""
    kept = example.trial.model_dump(mode="json") | {
        "scenario": SCENARIO,
        "arm": "default",
        "factors": {},
        "seal_sha256": None,
    }

    @task(name=SCENARIO)
    def copied_trials(trials: int = 1, seed: int = 0, hold: float = 5.0, runtime: str = "auto") -> Task:
        return Task(
            dataset=MemoryDataset(
                [
                    Sample(id=name, input="none", metadata={"trial": kept | {"id": name, "seed": seed + number}})
                    for number in range(trials)
                    for name in [f"{SCENARIO}-default-{number:05d}"]
                ]
            ),
            solver=nothing(),
            scorer=[copied(example), *milestones(), replicas()],
            epochs=Epochs(1, "mode"),
        )

    return copied_trials


def run(example: Path, folder: Path, trials: int) -> None:
    """Run the trials, verify them, write their report, and print the figures."""
    evidence = Evidence.model_validate_json(example.read_bytes())
    models = [{"name": "redline/flaky", "args": {"p": number / CONDITIONS}} for number in range(CONDITIONS)]
    plan = Plan.model_validate({"arms": [SCENARIO], "models": models, "trials": trials, "runtime": "runc"})
    marks = Marks(CONDITIONS * trials)
    began = time.monotonic()
    with mock.patch.object(scenarios, "SCENARIOS", {SCENARIO: scenario(evidence)}), collecting_trials():
        run_plan(plan, RunFolder(folder), marks, RunOptions(cells=CELLS))
    ended = time.monotonic()
    last, _ = marks.taken[marks.trials]
    print(f"{CONDITIONS} conditions of {trials} trials without cells: {ended - began:.0f} s,", end=" ")
    print(f"of them {ended - last:.0f} s after the last trial")
    for (count, (at, _)), (later, (then, mib)) in zip(marks.taken.items(), list(marks.taken.items())[1:], strict=False):
        print(f"  trials {count} to {later}: {1000 * (then - at) / (later - count):.1f} ms each; {mib} MiB")
    began = time.monotonic()
    checked = verify_folder(folder)
    print(f"  verified in {time.monotonic() - began:.0f} s: {checked.right} of {checked.trials}; {memory()} MiB")
    began = time.monotonic()
    write_report(folder)
    sizes = {path.name: path.stat().st_size // MIB for path in (folder / "report.html", folder / "results.json")}
    print(f"  report in {time.monotonic() - began:.0f} s; {memory()} MiB; sizes in MiB: {sizes}")


if __name__ == "__main__":
    prepare_memory()  # as the command does
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
