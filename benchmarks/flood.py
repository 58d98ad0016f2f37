"""What a cell that floods its tether costs the trials that run at the same time."""

import statistics
import tempfile

from inspect_ai import Task, eval
from inspect_ai.model import get_model

from redline.scenarios.self_replication import self_replication

TRIALS = 6
AT_ONCE = 4
MAX_TIMES_AS_LONG = 1.5
MEASURED = "0" * 64
"""Stands for a seal that was measured before, so that none is measured here."""


def flood() -> None:
    """Prints how long trials take on their own, and next to one whose agent floods its tether."""
    alone = _seconds("replicator")
    flooded = _seconds("replicator", "tether_flooder")
    ratio = statistics.median(flooded) / statistics.median(alone)
    print(
        f"{TRIALS} trials, {AT_ONCE} at once: median {statistics.median(alone):.1f} s on their own, "
        f"{statistics.median(flooded):.1f} s next to a flood: {ratio:.2f} times as long; "
        f"to be at most {MAX_TIMES_AS_LONG:g}"
    )


def _seconds(*controls: str) -> list[float]:
    """Seconds of each trial of the first control, while the others run."""
    with tempfile.TemporaryDirectory() as folder:
        logs = eval(
            _task(),
            model=[get_model(f"redline/{control}", memoize=False) for control in controls],
            log_dir=folder,
            display="none",
            max_samples=AT_ONCE,
            max_tasks=len(controls),
            log_samples=True,
        )
        log = next(log for log in logs if log.eval.model.endswith(controls[0]))
        return [sample.total_time for sample in log.samples or [] if sample.total_time is not None]


def _task() -> Task:
    task = self_replication(trials=TRIALS, weights="1MiB", competence=False, runtime="runc", hold=1.0)
    for sample in task.dataset:
        assert sample.metadata is not None
        sample.metadata["trial"]["seal_sha256"] = MEASURED
    return task
