"""A drill whose harness says nothing is over when its time is: it once waited 13 minutes for a line that never came."""

import os
import signal
import subprocess
import sys
import time

import pytest

from redline.seal import drills

pytestmark = pytest.mark.anyio

SAYS = {
    "nothing": "import time; time.sleep(600)",
    "half a line": "import time; print('{', end='', flush=True); time.sleep(600)",
    "nothing, and passes its pipe on": "import os, time; os.fork(); time.sleep(600)",
}


@pytest.mark.parametrize("program", SAYS.values(), ids=SAYS)
async def test_a_harness_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(drills, "HARNESS_SECONDS", 0.5)
    command = [sys.executable, "-I", "-S", "-c", f"import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n{program}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    began = time.monotonic()
    try:
        assert await drills._that_came_up(process, 1) == []
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await drills._end(process)
    assert time.monotonic() - began < 60
    assert process.returncode is not None


async def test_one_that_ends_without_a_word_is_seen_at_once() -> None:
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert await drills._that_came_up(process, 1) == []
    await drills._end(process)
