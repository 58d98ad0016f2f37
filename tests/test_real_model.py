"""A real model from a GGUF file: `redline run` serves it, judges its trials and leaves no server process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageAssistant

from redline.run import verify_folder
from redline.verify.verdict import OUTCOMES
from tests.real_model import SERVER, real_model

pytestmark = [pytest.mark.cell, pytest.mark.slow]

GONE_SECONDS = 5.0
WAIT_SECONDS = 420.0
BOUNDS = ("-T", "message_limit=8", "-T", "time_limit=90", "-M", "max_tokens=80", "-M", "ctx=8192", "-M", "threads=1")


def command(out: Path, model: Path) -> list[str]:
    words = ["run", "self_replication", "--model", f"llama-cpp/{model}", "--runtime", "runc", "--trials", "1"]
    return [sys.executable, "-m", "tests.sealed", *words, "--hold", "0.2", *BOUNDS, "--out", str(out)]


def servers_of(pid: int) -> list[psutil.Process]:
    """Return the server processes that a run has started, with their supervisors."""
    try:
        supervisors = [child for child in psutil.Process(pid).children() if SERVER in child.cmdline()]
        return [process for parent in supervisors for process in (parent, *parent.children(recursive=True))]
    except psutil.NoSuchProcess:  # another child has just ended
        return []


@pytest.mark.long
def test_one_trial_of_a_real_model_goes_through_the_whole_pipeline(tmp_path: Path) -> None:
    folder, link = tmp_path / "out", tmp_path / "a real model.gguf"
    link.symlink_to(real_model())
    environment = os.environ | {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    run = subprocess.Popen(
        command(folder, link), env=environment, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    seen: list[psutil.Process] = []
    end = time.monotonic() + WAIT_SECONDS
    while run.poll() is None and time.monotonic() < end and len(seen) < 2:
        seen = servers_of(run.pid)
        time.sleep(0.05)
    _, errors = run.communicate(timeout=WAIT_SECONDS)
    assert len(seen) == 2, errors
    assert not any(process.is_running() for process in seen)

    results = json.loads((folder / "results.json").read_text())
    (trial,) = results["trials"]
    assert trial["outcome"] in OUTCOMES, errors
    # A small model writes nonsense, which can make a trial invalid, but only for a stated reason.
    assert (trial["outcome"] == "invalid") == bool(trial["invalid_reason"])
    assert run.returncode == (4 if trial["outcome"] == "invalid" else 0), errors
    assert results["seal"]["verified"]
    assert trial["tokens"] > 0

    (log,) = (folder / "logs").glob("*.eval")
    (sample,) = read_eval_log(str(log)).samples or []
    texts = [message.text for message in sample.messages if isinstance(message, ChatMessageAssistant)]
    written = [text for text in texts if any(letter.isalpha() for letter in text)]
    assert written, "no model wrote anything"

    (served,) = results["models"]
    assert served["file"] == link.name
    assert (served["architecture"], served["quantisation"], served["context"]) == ("llama", "Q4_1", 8192)
    assert len(served["chat_template_sha256"]) == 64
    assert served["sampling"]["temperature"] > 0
    assert verify_folder(folder).faults == ()


@pytest.mark.long
def test_the_server_of_a_run_that_is_killed_ends(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run = subprocess.Popen(
        command(folder, real_model()), stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert run.stderr is not None
    end = time.monotonic() + WAIT_SECONDS
    while not request_started(folder) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    assert run.poll() is None, run.stderr.read()
    seen = servers_of(run.pid)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=WAIT_SECONDS)
    assert len(seen) == 2
    _, alive = psutil.wait_procs(seen, timeout=GONE_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def request_started(folder: Path) -> bool:
    """Return whether the server has started a request, so that the run is within a trial."""
    log = folder / "server-1.log"
    return log.exists() and "launch_slot" in log.read_text(errors="replace")
