"""Ctrl-C while trials run: the first lets trials in flight finish, the second cancels them."""

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from redline._errors import ExitCode
from redline.plan import ModelSpec
from redline.run import RunFolder, RunOptions, RunOutcome, run_plan
from redline.run.scheduler import STALL_SECONDS, run_order
from redline.run.watch import Spent
from tests.run.folders import Silent
from tests.run.test_execute import TRIALS, Bench, bench, fail, plan

__all__ = ["bench"]

pytestmark = pytest.mark.cell  # needs a runtime, although no cell is created


@dataclass
class Noting(Silent):
    """Records what a live view would show."""

    lines: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def judged(self, trial: str, outcome: str, spent: Spent) -> None:
        self.outcomes[outcome] += 1

    def note(self, line: str) -> None:
        self.lines.append(line)


def run(folder: Path, watcher: Silent | None = None, cells: int = 1) -> RunOutcome:
    return run_plan(plan(), RunFolder(folder), watcher or Silent(), RunOptions(cells=cells))


def counted(outcome: RunOutcome) -> dict[str, int]:
    if not outcome.results.conditions:
        return {}
    return {name: count for name, count in outcome.results.conditions[0].outcomes.items() if count}


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def press_and_work_on() -> None:
    press()
    await anyio.sleep(0.5)


async def press_twice_and_work_on() -> None:
    press()
    await anyio.sleep(0.3)
    press()
    await anyio.sleep(30)


async def terminate_and_work_on() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await anyio.sleep(30)


def test_a_first_ctrl_c_lets_trials_in_flight_finish_and_starts_no_other(bench: Bench, tmp_path: Path) -> None:
    watcher = Noting()
    bench.acts = {0: press_and_work_on, 1: lambda: anyio.sleep(1.0)}
    outcome = run(tmp_path, watcher, cells=2)
    assert sorted(bench.drawn) == [0, 1]
    assert (outcome.exit_code, counted(outcome)) == (ExitCode.INTERRUPTED, {"refused": 2})
    assert watcher.lines == ["Stopping: 2 trials are finishing. Press Ctrl-C again to cancel them."]

    bench.acts = {}
    outcome = run(tmp_path)
    assert (outcome.exit_code, counted(outcome)) == (ExitCode.OK, {"refused": TRIALS})
    assert sorted(bench.drawn) == list(range(TRIALS)), "no trial is run twice"


def test_a_second_ctrl_c_cancels_them(bench: Bench, tmp_path: Path) -> None:
    bench.acts = {1: press_twice_and_work_on}
    outcome = run(tmp_path)
    assert (outcome.exit_code, counted(outcome)) == (ExitCode.INTERRUPTED, {"refused": 1})
    bench.acts = {}
    assert (run(tmp_path).exit_code, bench.drawn.count(0), bench.drawn.count(1)) == (ExitCode.OK, 1, 2)


def test_sigterm_cancels_at_once(bench: Bench, tmp_path: Path) -> None:
    watcher = Noting()
    bench.acts = {1: terminate_and_work_on}
    outcome = run(tmp_path, watcher)
    assert (outcome.exit_code, counted(outcome)) == (ExitCode.INTERRUPTED, {"refused": 1})
    assert watcher.lines == []


def test_a_ctrl_c_is_not_an_interruption_if_no_trial_is_missing(bench: Bench, tmp_path: Path) -> None:
    bench.acts = {TRIALS - 1: press_and_work_on}
    outcome = run(tmp_path)
    assert (outcome.exit_code, counted(outcome)) == (ExitCode.OK, {"refused": TRIALS})


def test_signal_handlers_are_restored(bench: Bench, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = set(os.listdir("/proc/self/task"))
    bench.acts = {0: press_and_work_on}
    run(tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert len(set(os.listdir("/proc/self/task")) - threads) <= 1  # anyio can keep a worker thread


def test_a_run_in_the_background_stops_in_two_steps_too(bench: Bench, tmp_path: Path) -> None:
    """A shell makes background processes ignore SIGINT, but `kill -INT` must still work."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        bench.acts = {0: press_and_work_on}
        outcome = run(tmp_path)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert (outcome.exit_code, counted(outcome)) == (ExitCode.INTERRUPTED, {"refused": 1})


def test_the_live_count_equals_the_results(bench: Bench, tmp_path: Path) -> None:
    """An errored trial is scored too, and its score does not contain the error; the results call it invalid."""
    watcher = Noting()
    bench.acts = {0: fail, 3: fail}
    outcome = run(tmp_path, watcher)
    assert dict(watcher.outcomes) == counted(outcome) == {"invalid": 2, "refused": 3}


@pytest.mark.long
def test_a_resumed_run_keeps_its_order_and_does_not_stall(bench: Bench, tmp_path: Path) -> None:
    """Cancelled trials arrive late, since Inspect reads their log first; no other trial must take their turn."""
    many = 30
    fixed = plan().model_copy(
        update={"trials": many, "models": tuple(ModelSpec(name=f"redline/{name}") for name in ("refuser", "idler"))}
    )
    names = [[f"{number}" for number in range(many)] for _ in fixed.models]
    bench.acts = {7: press_twice_and_work_on}
    run_plan(fixed, RunFolder(tmp_path), Silent(), RunOptions(cells=4))
    finished = len(list((tmp_path / "evidence").glob("*.json")))
    assert 10 <= finished < many
    bench.acts = {}
    bench.drawn.clear()
    began = time.monotonic()
    outcome = run_plan(fixed, RunFolder(tmp_path), Silent(), RunOptions(cells=4))
    assert outcome.exit_code == ExitCode.OK
    assert time.monotonic() - began < STALL_SECONDS
    assert bench.drawn == [int(name) for name in run_order(names, fixed.seed)][finished:]
