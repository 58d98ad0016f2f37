"""A reader of stdout or stderr that exits early, as `head` does."""

import os
import subprocess
import sys

import pytest

from redline import __version__

COMMANDS = (["--help"], ["--version"], ["list", "--json"], ["list"], ["plan", "check", "headline.yaml"])


def ended(arguments: list[str], *, stderr_too: bool = False, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command whose stdout has no reader, and return its exit code and its stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "redline", *arguments],
            stdout=writing,
            stderr=writing if stderr_too else subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, **(env or {})},
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr or ""


@pytest.mark.long
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_whose_reader_has_exited_ends_without_an_error(arguments: list[str]) -> None:
    assert ended(arguments) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize("arguments", [["--help"], ["plan", "list"]], ids=" ".join)
def test_the_first_unbuffered_write_may_hit_the_broken_pipe(arguments: list[str]) -> None:
    assert ended(arguments, env={"PYTHONUNBUFFERED": "1"}) == (0, "")


def test_an_error_that_no_process_reads_keeps_its_exit_code() -> None:
    assert ended(["rum"], stderr_too=True)[0] == 2


def test_a_pipe_with_a_reader_gets_everything() -> None:
    command = [sys.executable, "-m", "redline", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{__version__}\n", "")
