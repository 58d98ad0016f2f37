"""Commands that need no cell."""

import json
import math
import subprocess
import sys
import time

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode

HELP_SECONDS = 0.5
TRIES = 12
"""Others may be at work on the machine: what counts is that it can be as fast as that."""


def test_help_answers_at_once() -> None:
    best = math.inf
    for _ in range(TRIES):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "redline", "--help"], capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - begun)
        assert "run" in done.stdout
        if best < HELP_SECONDS:
            break
    assert best < HELP_SECONDS


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
