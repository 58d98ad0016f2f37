"""`redline.run` in scripts and notebooks: plans from arguments, the thread of its own, and Ctrl-C."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import redline
from redline._errors import ExitCode, UsageError
from redline.analysis import LoadedRun, running
from redline.api import ModelSpec, Plan
from redline.run import RunOptions
from tests.run.folders import OUTCOMES, Silent, toy

WAIT_SECONDS = 300.0
MISSPELT: dict[str, Any] = {"trails": 3}

SCRIPT = """
import asyncio
import sys

import pytest

import redline
from tests.sealed import shorten_the_seal

shorten_the_seal(pytest.MonkeyPatch())


async def cell():
    redline.run(
        "self_replication", models="redline/replicator", factors={"weights": "4MiB"}, trials=6, out=sys.argv[1],
        runtime="runc", hold=float(sys.argv[2]), options=redline.api.RunOptions(cells=2),
    )

asyncio.run(cell())
"""


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})


def run_toys(out: Path) -> LoadedRun:
    return redline.run(
        "toy",
        models=["redline/refuser"],
        trials=len(OUTCOMES),
        out=out,
        runtime="runc",
        options=RunOptions(cells=1),
        watcher=Silent(),
    )


@pytest.mark.long
@pytest.mark.cell  # a runtime must be installed, although no cell starts
def test_a_script_runs_a_scenario(tmp_path: Path, toys: None) -> None:
    run = run_toys(tmp_path)
    assert [trial.outcome for trial in run.trials] == list(OUTCOMES)
    assert run.results == redline.load(tmp_path).results
    assert (tmp_path / "report.html").is_file()


@pytest.mark.long
@pytest.mark.cell
def test_a_running_event_loop_continues_after_the_run(tmp_path: Path, toys: None) -> None:
    async def cell() -> LoadedRun:
        run = run_toys(tmp_path)
        await asyncio.sleep(0)
        return run

    before = signal.getsignal(signal.SIGINT)
    assert [trial.outcome for trial in asyncio.run(cell()).trials] == list(OUTCOMES)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.long
@pytest.mark.cell
def test_a_loop_outside_the_main_thread_can_run_a_plan_too(tmp_path: Path, toys: None) -> None:
    async def cell() -> LoadedRun:
        return await asyncio.to_thread(run_toys, tmp_path)

    assert len(asyncio.run(cell()).trials) == len(OUTCOMES)


def test_an_error_in_the_thread_reaches_the_caller(tmp_path: Path) -> None:
    async def cell() -> None:
        redline.run("self_replication", models="redline/nothing", runtime="runc", out=tmp_path / "out")

    with pytest.raises(UsageError, match="unknown control"):
        asyncio.run(cell())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: redline.run("self_replication"), "no model given"),
        (lambda: redline.run("self_replicatoin", models="redline/refuser"), "self_replication"),
        (lambda: redline.run("self_replication", models="redline/refuser", **MISSPELT), "unknown setting.*trials"),
        (lambda: redline.run("self_replication", models="redline/refuser", trials=0), "bad plan: trials"),
        (lambda: redline.run("self_replication", models="redline/refuser", factors={"hnt": "none"}), "hint"),
        (lambda: redline.run("no-such-plan.yaml"), "cannot read the plan"),
        (lambda: redline.run("headline.yaml", factors={"hint": "none"}), "remove factors"),
        (lambda: redline.run([], models="redline/refuser"), "bad plan: arms"),
    ],
)
def test_bad_usage_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def plan_of(*args: Any, **kwargs: Any) -> Plan:
    what, models, factors = args
    return running._plan(what, models, factors, kwargs)


def test_a_list_of_settings_makes_one_arm_per_setting() -> None:
    plan = plan_of("self_replication", "redline/refuser", {"hint": ["none", "commands"], "competence": False}, trials=3)
    assert [arm.factors["hint"] for arm in plan.arms] == ["none", "commands"]
    assert plan.trials == 3


def test_a_plan_can_be_a_file_or_an_object() -> None:
    from_file = plan_of("headline.yaml", ["redline/refuser"], {}, trials=2)
    assert [model.name for model in from_file.every_model] == ["redline/refuser"]
    given = Plan(arms=("self_replication",), models=("redline/refuser",))
    assert plan_of(given, [ModelSpec(name="redline/replicator")], {}, seed=4) == Plan(
        arms=("self_replication",), models=("redline/replicator",), seed=4
    )


def test_the_third_interrupt_returns_although_the_run_does_not_end() -> None:
    release = threading.Event()

    def waits() -> LoadedRun:
        release.wait(WAIT_SECONDS)
        raise AssertionError

    def interrupt() -> None:
        for _ in range(running.MAX_REQUESTS):
            time.sleep(0.3)
            signal.raise_signal(signal.SIGINT)

    timer = threading.Thread(target=interrupt, daemon=True)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            running._in_own_thread(waits)
    finally:
        release.set()
        timer.join(WAIT_SECONDS)


def test_progress_is_printed_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = running.StderrWatcher()
    watcher.began(4, 1, 2)
    watcher.note("\x1b[31mred")
    watcher.ended()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "\x1b" not in printed.err
    assert "4 trials, 1 of them finished" in printed.err


def start(out: Path, hold: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out), str(hold)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "concurrently" in line:
            return process
    raise AssertionError("the run did not start: " + "".join(lines))


def wait_for_a_trial(process: "subprocess.Popen[str]") -> None:
    """Wait until a subject's server runs in a cell; a busy host takes long to get there."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not _has_a_subject(process):
        assert time.monotonic() < deadline, "no trial began"
        time.sleep(0.1)


def _has_a_subject(process: "subprocess.Popen[str]") -> bool:
    for one in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "engine/engine.py" in one.cmdline():
                return True
    return False


@pytest.mark.long
@pytest.mark.cell
@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_in_a_notebook_stops_the_run_and_the_same_call_resumes_it(presses: int, tmp_path: Path) -> None:
    process = start(tmp_path, 0.5 if presses == 1 else 120)
    try:
        wait_for_a_trial(process)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(1)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode in (-signal.SIGINT, ExitCode.INTERRUPTED), err
    assert "Press Ctrl-C again" in err
    assert "run the same command to resume" in err
    assert redline.verify(tmp_path).faults == ()
    if presses == 1:
        again = start(tmp_path, 0.5)
        try:
            _, err = again.communicate(timeout=WAIT_SECONDS)
        finally:
            again.kill()
        assert again.returncode == 0, err
        assert [trial.outcome for trial in redline.load(tmp_path).trials] == ["replicated"] * 6
