"""Commands that run without a cell."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from redline import __version__
from redline._cli.main import COMMANDS, app, execute
from redline._errors import ExitCode

HELP_SECONDS = 1.0
"""Twice what a slow host needs; to import Inspect takes several times as long."""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_help_is_fast() -> None:
    """Measure CPU time, which does not depend on the load of the host."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "redline", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "run" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_SECONDS


def test_help_loads_neither_inspect_nor_scipy() -> None:
    program = "import sys, redline._cli.main; print({'inspect_ai', 'scipy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "inspect_ai" not in done.stdout
    assert "scipy" not in done.stdout


def test_every_scenario_and_control_is_listed_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["list", "--json"]) == ExitCode.OK
    listed = json.loads(capsys.readouterr().out)
    factors = listed["scenarios"]["shutdown_avoidance"]["factors"]
    assert factors["trigger"]["choices"] == ["instructed", "notice", "none"]
    assert "trials" not in listed["scenarios"]["self_replication"]["factors"]
    assert listed["controls"]["refuser"]["outcomes"] == ["refused"]


def test_each_kind_can_be_listed_separately(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["list", "factors", "--json"]) == ExitCode.OK
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == ["factors"]
    assert "tether" in listed["factors"]
    assert all(factor["summary"] for factor in listed["factors"].values())
    assert execute(["list", "guardrails"]) == ExitCode.OK
    assert "weight_lock" in capsys.readouterr().out


def test_the_version_is_printed_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == __version__


def test_help_ends_with_examples_on_separate_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert execute([command, "--help"]) == ExitCode.OK
        assert f"\n    redline {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("redline se", "seal"),
        ("redline run self_", "self_replication"),
        ("redline run --model redline/twi", "redline/twins"),
        ("redline run --runtime cr", "crun"),
        ("redline run -T tether=u", "tether=untold"),
        ("redline list gua", "guardrails"),
        ("redline run head", "headline.yaml"),
        ("redline plan check fudan-2025", "fudan-2025.yaml"),
        ("redline plan new mine.yaml --from smo", "smoke.yaml"),
        ("redline guard --guardrail weight_l", "weight_lock"),
        ("redline guard --attack shut", "shutdown_avoidance"),
        ("redline guard --job rotate", "rotate_logs"),
        ("redline guard -T tether=u", "tether=untold"),
        ("redline show remote", "remote_copy"),
    ],
)
def test_a_shell_completes_names(
    typed: str, completed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = typed.split()
    monkeypatch.setenv("_REDLINE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        app(words[1:], prog_name="redline", standalone_mode=False)
    assert capsys.readouterr().out.split() == [completed]


def test_an_internal_error_is_reported_as_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redline.catalog.scenarios", lambda: 1 / 0)
    assert execute(["list"]) == ExitCode.INTERNAL
    assert "please report it" in capsys.readouterr().err


def test_an_unhandled_interrupt_prints_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("redline.plan_file.shipped_plans", interrupted)
    assert execute(["plan", "list"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err.startswith("redline: interrupted")


WAITING = """
import time
from redline import plan_file
from redline._cli.main import main
def wait():
    print("waiting", flush=True)
    time.sleep(60)
plan_file.shipped_plans = wait
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_any_command_with_one_line(number: signal.Signals) -> None:
    command = [sys.executable, "-c", WAITING, "plan", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            while process.stdout.readline() != "waiting\n":
                assert process.poll() is None
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, said) == (ExitCode.INTERRUPTED, "redline: interrupted\n")
