"""A drill whose harness is silent ends at its timeout."""

import os
import signal
import subprocess
import sys
import time

import pytest

from redline.seal import drills

pytestmark = pytest.mark.anyio

OUTPUTS = {
    "nothing": "import time; time.sleep(600)",
    "half a line": "import time; print('{', end='', flush=True); time.sleep(600)",
    "nothing, and a fork keeps the pipe open": "import os, time; os.fork(); time.sleep(600)",
}


@pytest.mark.slow
@pytest.mark.parametrize("program", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.host("a harness that stops answering during a drill of the seal", how="injected")
async def test_a_silent_harness_does_not_block_the_drill(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(drills, "HARNESS_SECONDS", 0.5)
    command = [sys.executable, "-I", "-S", "-c", f"import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n{program}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    began = time.monotonic()
    try:
        assert await drills._started_harnesses(process, 1) == []
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await drills._end(process)
    assert time.monotonic() - began < 60
    assert process.returncode is not None


async def test_a_harness_that_exits_without_a_report_is_detected_at_once() -> None:
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert await drills._started_harnesses(process, 1) == []
    await drills._end(process)
