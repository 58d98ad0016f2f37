"""Wall time and memory of a run in one process and in worker processes, alternating within one benchmark."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processor import MODELS

TRIALS = 40
WORKERS = 2
ROUNDS = 2
MIN_SPEED = 0.95
"""Speed of two workers on two processors, as a ratio to one process: the processors are the limit, not the harness."""


def seconds_of_a_run(trials: int, *options: str) -> float:
    """Return the wall time of a command that runs the trials of three controls, from its start to its report."""
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "out"
        command = ("run", "self_replication", "--trials", f"{trials}", "--hold", "1", "--runtime", "runc")
        models = [word for name in MODELS for word in ("--model", name)]
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "redline", *command, *models, *options, "--out", str(out)],
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - begun
        judged = len(json.loads((out / "results.json").read_text())["trials"])
        if judged != trials * len(MODELS):
            raise RuntimeError(f"{judged} of {trials * len(MODELS)} trials were judged")
    return seconds


def workers() -> None:
    """Print how much faster or slower two workers are than one process."""
    alone, together = [], []
    for _ in range(ROUNDS):
        alone.append(seconds_of_a_run(TRIALS))
        together.append(seconds_of_a_run(TRIALS, "--workers", f"{WORKERS}"))
    speed = statistics.fmean(alone) / statistics.fmean(together)
    print(
        f"{TRIALS * len(MODELS)} trials: {statistics.fmean(alone):.1f} s in one process, "
        f"{statistics.fmean(together):.1f} s in {WORKERS} workers: speed {speed:.2f} (at least {MIN_SPEED})"
    )
