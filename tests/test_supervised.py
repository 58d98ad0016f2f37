"""A supervised process reports its lines, ends with its supervisor, and lets no call wait for long."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from redline import __version__
from redline._supervised import SupervisedProcess

ECHO = "import sys; print(sys.stdin.readline(), end='', flush=True); print('x', file=sys.stderr); sys.stdin.read()"

PARENT = f"""
import time
from redline._supervised import SupervisedProcess
process = SupervisedProcess()
process.start(("-c", {ECHO!r}), b"job\\n", "/dev/null")
print(process._process.pid, flush=True)
time.sleep(60)
"""


def started(log: Path) -> SupervisedProcess:
    process = SupervisedProcess()
    process.start(("-c", ECHO), b"job\n", str(log))
    return process


def until_ended(process: SupervisedProcess) -> list[bytes | None]:
    lines: list[bytes | None] = []
    while lines[-1:] != [None]:
        lines += process.receive(10)
    return lines


def test_lines_and_the_end_are_reported_and_stderr_is_in_the_log(tmp_path: Path) -> None:
    process = started(tmp_path / "log")
    assert process.receive(10) == [b"job\n"]
    before = time.monotonic()
    assert process.receive(0.2) == []
    assert time.monotonic() - before < 5
    process.end(10)
    assert until_ended(process) == [None]
    assert (tmp_path / "log").read_text() == "x\n"
    process.signal(15)  # nothing happens after the end


@pytest.mark.slow
def test_the_process_ends_when_its_supervisor_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_host_describes_itself(tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    version, sees = SupervisedProcess().describe(str(tmp_path / "marker"))
    assert (version, sees) == (__version__, True)
