"""A run that is killed or stopped during a trial leaves no cell process, and the same command completes it."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from redline.cell.state import state_folder
from redline.run.scheduler import STALL_SECONDS

TRIALS = 8
GONE_SECONDS = 5.0
WAIT_SECONDS = 300.0

pytestmark = [pytest.mark.cell, pytest.mark.slow]

IN_THE_BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""Make a command ignore Ctrl-C, as a shell does for background processes."""


def start(out: Path, within: Sequence[str] = (), hold: float = 0.5) -> "subprocess.Popen[str]":
    words = ["run", "self_replication", "-T", "weights=4MiB", "--model", "redline/replicator", "--runtime", "runc"]
    bounds = ["--trials", str(TRIALS), "--hold", f"{hold}", "--cells", "2"]
    return subprocess.Popen(
        [*within, sys.executable, "-m", "tests.sealed", *words, *bounds, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def complete(out: Path) -> str:
    """Run the same command again to its end; return its output."""
    return finish(start(out))


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for the end of a run, which must complete it; return its messages."""
    try:
        _, said = process.communicate(timeout=WAIT_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


def until(holds: Callable[[], bool], seconds: float = WAIT_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def logged(out: Path) -> int:
    """Return the size of the logs, which grow when a trial finishes."""
    return sum(path.stat().st_size for path in (out / "logs").glob("*.eval")) if out.exists() else 0


def folders_held(process: psutil.Process) -> set[Path]:
    """Return the folders of cells that a warden has locked."""
    try:
        held = [Path(file.path) for file in process.open_files()]
    except psutil.Error:
        return set()
    return {path.parent for path in held if path.is_relative_to(state_folder()) and path.name == "lock"}


def is_server(process: psutil.Process) -> bool:
    """Whether a process is a subject's LLM server."""
    try:
        return "engine/engine.py" in process.cmdline()
    except psutil.Error:
        return False


class Running:
    """A run that has finished one trial and is running others."""

    def __init__(self, out: Path, within: Sequence[str] = ()) -> None:
        self.process = start(out, within)
        assert until(lambda: logged(out) > 0, WAIT_SECONDS)
        first = logged(out)
        assert until(lambda: logged(out) > first, WAIT_SECONDS), "no trial was finished"
        assert until(lambda: len(self._children()) > 1, WAIT_SECONDS), "no cell was running"
        self.family = self._children()
        # Its operations are forks that share the lock.
        (self.warden,) = (one for one in psutil.Process(self.process.pid).children() if folders_held(one))
        self.folders = {folder for process in self.family for folder in folders_held(process)}
        assert self.folders, "no warden was running"

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, said

    def wait_for_a_new_cell(self) -> None:
        """Return when a server has just started in a cell, so that a trial is in flight and not only planned."""
        before = self._servers()
        assert until(lambda: bool(self._servers() - before), WAIT_SECONDS)

    def _servers(self) -> set[int]:
        return {process.pid for process in self._children() if is_server(process)}

    def nothing_is_left(self) -> bool:
        _, alive = psutil.wait_procs(self.family, timeout=GONE_SECONDS)
        running = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        return not running and until(lambda: not any(map(Path.exists, self.folders)), GONE_SECONDS)


def outcomes(out: Path) -> dict[str, int]:
    results = json.loads((out / "results.json").read_text())
    counts: dict[str, int] = results["conditions"][0]["outcomes"]
    return {outcome: count for outcome, count in counts.items() if count}


def deviations(out: Path) -> list[str]:
    said: list[str] = json.loads((out / "results.json").read_text())["deviations"]
    return said


@pytest.mark.long
def test_a_killed_run_leaves_no_process_and_is_completed_by_the_same_command(tmp_path: Path) -> None:
    run = Running(tmp_path / "out")
    run.end(signal.SIGKILL)
    assert run.nothing_is_left()

    kept = re.search(r"(\d+) already finished", complete(tmp_path / "out"))
    assert kept is not None
    assert int(kept[1]) >= 1
    assert outcomes(tmp_path / "out") == {"replicated": TRIALS}


@pytest.mark.first_cases(1)
@pytest.mark.parametrize(
    ("number", "within"),
    [
        (signal.SIGINT, ()),
        (signal.SIGINT, IN_THE_BACKGROUND),
        (signal.SIGTERM, ()),
        (signal.SIGTERM, IN_THE_BACKGROUND),
    ],
)
def test_a_stopped_run_writes_its_results_and_leaves_nothing(
    number: signal.Signals, within: Sequence[str], tmp_path: Path
) -> None:
    """test_stopping.py shows without cells that the same command completes the run."""
    run = Running(tmp_path / "out", within)
    code, said = run.end(number)
    assert code == 130
    assert run.nothing_is_left()
    assert ("\nredline: Stopping: " in said) == (number == signal.SIGINT)
    assert "Traceback" not in said
    stopped = outcomes(tmp_path / "out")
    assert set(stopped) == {"replicated"}
    assert 1 <= stopped["replicated"] < TRIALS
    assert deviations(tmp_path / "out") == [
        f"{TRIALS - stopped['replicated']} of {TRIALS} planned trials did not run",
    ]


PAUSE_SECONDS = 8.0
"""Twice the lease."""


@pytest.mark.long
def test_a_paused_harness_loses_no_trial(tmp_path: Path) -> None:
    """If the harness is stopped for longer than its lease, its cells end and their trials are run again."""
    run = Running(tmp_path / "out")
    run.wait_for_a_new_cell()
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(PAUSE_SECONDS)
    assert run.warden.status() == psutil.STATUS_ZOMBIE, "the cells lived on"
    code, said = run.end(signal.SIGCONT)
    assert (code, outcomes(tmp_path / "out")) == (0, {"replicated": TRIALS}), said
    lost = [line for line in deviations(tmp_path / "out") if line.startswith("lost: ")]
    assert len(lost) == 1 and "the harness was stopped for" in lost[0]
    assert run.nothing_is_left()


@pytest.mark.long
def test_a_killed_warden_loses_no_trial(tmp_path: Path) -> None:
    run = Running(tmp_path / "out")
    run.wait_for_a_new_cell()
    began = time.monotonic()
    run.warden.kill()
    code, said = run.end(signal.SIGCONT)
    assert (code, outcomes(tmp_path / "out")) == (0, {"replicated": TRIALS}), said
    # A busy host takes as long as one such wait for the trials themselves; each trial would add one.
    assert time.monotonic() - began < 2 * STALL_SECONDS, "trials waited for the scheduler of those that were lost"
    assert any("the warden was killed" in line for line in deviations(tmp_path / "out"))
    assert run.nothing_is_left()


@pytest.mark.long
def test_a_second_ctrl_c_cancels_long_trials(tmp_path: Path) -> None:
    run = start(tmp_path / "out", hold=WAIT_SECONDS)
    try:
        assert until(lambda: len(psutil.Process(run.pid).children(recursive=True)) > 1, WAIT_SECONDS)
        assert until(lambda: bool(list((tmp_path / "out" / "logs").glob("*.eval"))), WAIT_SECONDS)
        time.sleep(5)
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        assert any(line.startswith("redline: Stopping: 2 trials are finishing.") for line in run.stderr)
        time.sleep(2)
        assert run.poll() is None, "it waits for them"
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=WAIT_SECONDS / 4)
    finally:
        run.kill()
    assert run.returncode == 130
    assert "Traceback" not in said and "8 of 8 trials have not run yet" in said
    _, alive = psutil.wait_procs(family, timeout=GONE_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    seal = json.loads((tmp_path / "out" / "results.json").read_text())["seal"]
    assert seal["verified"], "it was proved at the start"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_seal_is_measured_one_signal_ends_the_command(number: signal.Signals, tmp_path: Path) -> None:
    run = start(tmp_path / "out")
    try:
        assert until(lambda: len(psutil.Process(run.pid).children(recursive=True)) > 0, WAIT_SECONDS)
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        _, said = run.communicate(timeout=WAIT_SECONDS / 4)
    finally:
        run.kill()
    assert (run.returncode, said.strip().splitlines()[-1]) == (130, "redline: interrupted")
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=GONE_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
