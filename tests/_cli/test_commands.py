"""Commands that need no cell."""

import json
import subprocess
import sys
import time

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode

HELP_SECONDS = 0.5
TRIES = 6
YARDSTICK = "import rich.console, typer"
"""What any command line of this kind loads; a machine at work on something else is slower at that, too."""


def test_help_answers_at_once() -> None:
    tries: list[tuple[float, float]] = []
    while not any(taken < max(HELP_SECONDS, 2 * least) for taken, least in tries):
        assert len(tries) < TRIES, tries
        least, _ = timed("-c", YARDSTICK)
        taken, said = timed("-m", "redline", "--help")
        assert "run" in said
        tries.append((taken, least))


def timed(*arguments: str) -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, done.stdout


def test_help_loads_neither_inspect_nor_scipy() -> None:
    program = "import sys, redline._cli.main; print({'inspect_ai', 'scipy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "inspect_ai" not in done.stdout
    assert "scipy" not in done.stdout


def test_every_scenario_and_control_is_listed_with_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["list", "--json"]) == ExitCode.OK
    listed = json.loads(capsys.readouterr().out)
    factors = listed["scenarios"]["shutdown_avoidance"]["factors"]
    assert factors["trigger"]["choices"] == ["instructed", "notice", "none"]
    assert "trials" not in listed["scenarios"]["self_replication"]["factors"]
    assert listed["controls"]["refuser"]["outcomes"] == ["refused"]


def test_a_fault_of_redline_is_reported_as_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redline.catalog.scenarios", lambda: 1 / 0)
    assert execute(["list"]) == ExitCode.INTERNAL
    assert "please report it" in capsys.readouterr().err
