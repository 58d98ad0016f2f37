"""No test hangs forever: a test that hangs is killed, fails, and shows its stack."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
METHOD = OPTIONS["timeout_method"]

HANGS = {
    "in_a_shield": """
import anyio, anyio.to_thread, time
def test_hangs():
    async def main():
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(time.sleep, 600)
    anyio.run(main)
""",
    "in_a_handler": """
import time
def test_hangs():
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
""",
}


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("text", HANGS.values(), ids=HANGS)
def test_a_test_that_hangs_is_killed_and_shows_its_stack(tmp_path: Path, text: str, workers: int) -> None:
    (tmp_path / "test_it.py").write_text(text + "\ndef test_other():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-n", str(workers), "--timeout=3", f"--timeout-method={METHOD}"]
    command += ["-o", "faulthandler_timeout=1", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "test_it.py" in output and "in test_hangs" in output
    if workers:  # the worker is replaced, and the other tests still run
        assert "1 failed, 1 passed" in output


def test_every_test_has_a_timeout() -> None:
    assert 0 < OPTIONS["timeout"] <= 600
    assert 0 < OPTIONS["faulthandler_timeout"] < OPTIONS["timeout"]


def test_ci_starts_slow_commands_only_with_a_timeout() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    slow = ("apt-get -qq", "scripts/install-gvisor >", "docker info", "setsid ", "make -", "-m pytest")
    assert all(any(word in line for line in lines) for word in slow), "the words are those of the file"
    for line in lines:
        code = line.split("#")[0] if line.lstrip().startswith("#") else line
        for word in slow:
            for before in code.split(word)[:-1]:
                assert "within " in before.rpartition("&&")[2].rpartition("{")[2], line


@pytest.mark.parametrize("hangs", ["make", "python"])
def test_ci_ends_by_itself_if_a_command_hangs(tmp_path: Path, hangs: str) -> None:
    for name, text in {"make": "exit 0", "id": "echo 1000", hangs: "exec sleep 1000"}.items():
        program = tmp_path / ("bin" if name != "python" else ".venv/bin") / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "CI_SECONDS": "2"}
    done = subprocess.run([tmp_path / ".ci/run"], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 124  # of `timeout`
