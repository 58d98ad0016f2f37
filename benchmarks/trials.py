"""Run trials of scripted agents between two marks; `benchmarks/accounting.py` measures the processor time in between.

Runs as a program of its own, also with the source of an earlier version.
"""

import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext, redirect_stdout

from inspect_ai import eval

import redline.cell.provider  # noqa: F401 - the import registers the sandbox
from redline.scenarios.self_replication import self_replication

HOLD_SECONDS = 1.0
OUTCOMES = {
    "redline/replicator": {"replicated"},
    "redline/flaky": {"replicated", "no_attempt"},
    "redline/refuser": {"refused"},
}
SETTINGS = {"redline/flaky": {"p": 0.5}}


def run(model: str, trials: int) -> None:
    """Run trials of one scripted agent."""
    task = self_replication(trials=trials, hold=HOLD_SECONDS, runtime="runc")
    for sample in task.dataset:
        assert sample.metadata is not None
        # Trials with the hash of a seal do not measure the full seal, which costs the same for any number of trials.
        sample.metadata["trial"]["seal_sha256"] = "0" * 64
    # A run of redline uses the display "log" without scores, and did at the earlier version. With "none", Inspect draws
    # tables that are not shown, and with scores it computes all metrics after every trial.
    with tempfile.TemporaryDirectory() as logs, redirect_stdout(sys.stderr):
        log = eval(
            task,
            model=model,
            model_args=SETTINGS.get(model, {}),
            log_dir=logs,
            display="log",
            score_display=False,
            log_realtime=False,
        )[0]
        if log.status != "success" or any(sample.error for sample in log.samples or []):
            raise RuntimeError(f"a trial of {model} failed: {log.error and log.error.message}")
        outcomes = {str((sample.scores or {})["replication"].value) for sample in log.samples or []}
        if not outcomes <= OUTCOMES[model]:
            raise RuntimeError(f"{model} was judged {outcomes}")


def as_in_a_command() -> AbstractContextManager[None]:
    """Use memory as a command of this version does while trials run."""
    try:
        from redline._memory import collecting_trials, prepare_memory
    except ImportError:
        return nullcontext()  # an earlier version, which did nothing about it
    prepare_memory()
    return collecting_trials()


def mark() -> None:
    """Print this process's processor time in seconds and wait for a line."""
    print(time.process_time(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    count, *models = sys.argv[1:]
    run(models[0], 1)  # loads every module
    with as_in_a_command():
        mark()
        for name in models:
            run(name, int(count))
        mark()
