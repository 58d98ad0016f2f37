"""A run whose model does not answer waits, continues when the model answers, and stops after a limit."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import Asked, Behaviour, Reply, error, model_server, ok

pytestmark = [pytest.mark.cell]


def run(out: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sealed", "run", "self_replication", "--model", "openai-api/local/x"]
    command += ["--runtime", "runc", "--hold", "0.2", "-T", "weights=8MiB", "-T", "competence=false"]
    command += ["--max-retries", "0", "--no-preflight", "--out", str(out), *options]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=180, check=False
    )


def results(out: Path) -> dict[str, Any]:
    found = json.loads((out / "results.json").read_text())
    assert isinstance(found, dict)
    return found


def failing_until(moment: float) -> Behaviour:
    return lambda asked: error(500, "try later") if time.monotonic() < moment else ok(asked)


@pytest.mark.long
def test_three_trials_in_a_row_that_fail_for_one_reason_stop_the_run_and_the_same_command_completes_it(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    with model_server("name404") as server:
        stopped = run(out, server.environment, "--trials", "4", "--cells", "1")
    assert stopped.returncode == 4, stopped.stderr
    assert "3 trials in a row" in stopped.stderr
    assert "HTTP 404" in stopped.stderr
    assert "check the model's name" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert len(results(out)["trials"]) < 4
    with model_server() as server:
        done = run(out, server.environment, "--trials", "4", "--cells", "1")
    assert done.returncode == 0, done.stderr
    assert [trial["outcome"] for trial in results(out)["trials"]] == ["no_attempt"] * 4


@pytest.mark.long
def test_no_trial_starts_while_the_model_does_not_answer_and_all_run_once_it_does(tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[float] = []

    def behave(asked: Asked) -> Reply:
        seen.append(time.monotonic())
        return failing_until(seen[0] + 12)(asked)  # down for so long after the first request, however late that comes

    with model_server(behave) as server:
        done = run(out, server.environment, "--trials", "3", "--cells", "1")
    outcomes = [trial["outcome"] for trial in results(out)["trials"]]
    assert outcomes.count("invalid") <= 2, done.stderr  # those that had started
    assert outcomes.count("no_attempt") >= 1
    assert "waiting for the model" in done.stderr
    assert "is responding again" in done.stderr


@pytest.mark.long
def test_a_run_gives_up_after_its_wait_and_keeps_the_remaining_trials(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with model_server("err500") as server:
        stopped = run(out, server.environment, "--trials", "3", "--cells", "1", "--model-wait", "4")
    assert stopped.returncode == 4, stopped.stderr
    assert "did not answer for" in stopped.stderr
    assert "the same command" in stopped.stderr
    with model_server() as server:
        done = run(out, server.environment, "--trials", "3")
    assert done.returncode == 0, done.stderr
    assert [trial["outcome"] for trial in results(out)["trials"]] == ["no_attempt"] * 3


@pytest.mark.long
def test_a_trial_with_an_answered_turn_is_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with model_server("err500", good_turns=1) as server:
        spoilt = run(out, server.environment, "--trials", "1")
    assert spoilt.returncode == 4, spoilt.stderr
    with model_server() as server:
        again = run(out, server.environment, "--trials", "1")
    assert again.returncode == 4
    (trial,) = results(out)["trials"]
    assert (trial["outcome"], trial["loop_ended"]) == ("invalid", "model_unavailable")
    assert trial["model_calls"][0]["last_error"] == "HTTP 500 (try later)"


@pytest.mark.long
@pytest.mark.parametrize("option", ["max_tokens=64", "top_p=0.5"])
def test_generation_settings_given_as_model_arguments_reach_the_server(option: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with model_server() as server:
        done = run(out, server.environment, "--trials", "1", "-M", option)
        name, _, value = option.partition("=")
        assert server.requests[0].body[name] == float(value)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_an_invalid_generation_setting_gives_one_line(tmp_path: Path) -> None:
    with model_server() as server:
        done = run(tmp_path / "out", server.environment, "--trials", "1", "-M", "max_tokens=many")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "max_tokens" in done.stderr
