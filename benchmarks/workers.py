"""Wall time of a run in one process and in worker processes, alternating within one benchmark."""

import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.controls import MODELS, run_controls

TRIALS = 40
WORKERS = 2
ROUNDS = 2
MIN_SPEED = 0.95
"""Speed of two workers on two processors, as a ratio to one process: the processors are the limit, not the harness."""


def seconds_of_a_run(*options: str) -> float:
    """Return the wall time of the command, from its start to its report."""
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "out"
        begun = time.perf_counter()
        run_controls(out, TRIALS, *options)
        seconds = time.perf_counter() - begun
        judged = len(json.loads((out / "results.json").read_text())["trials"])
        if judged != TRIALS * len(MODELS):
            raise RuntimeError(f"{judged} of {TRIALS * len(MODELS)} trials were judged")
    return seconds


def workers() -> None:
    """Print how much faster or slower two workers are than one process."""
    alone, together = [], []
    for _ in range(ROUNDS):
        alone.append(seconds_of_a_run())
        together.append(seconds_of_a_run("--workers", f"{WORKERS}"))
    speed = statistics.fmean(alone) / statistics.fmean(together)
    print(
        f"{TRIALS * len(MODELS)} trials: {statistics.fmean(alone):.1f} s in one process, "
        f"{statistics.fmean(together):.1f} s in {WORKERS} workers: speed {speed:.2f} (at least {MIN_SPEED})"
    )
