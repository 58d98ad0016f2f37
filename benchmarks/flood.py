"""The effect of a cell that floods its tether on the trials that run at the same time."""

import statistics
import tempfile

from inspect_ai import Task, eval
from inspect_ai.model import get_model

from redline.scenarios.self_replication import self_replication

TRIALS = 6
MAX_CONCURRENT = 4
MAX_RATIO = 1.5
MEASURED = "0" * 64
"""Hash in place of that of a measured seal, so that the benchmark measures none."""


def flood() -> None:
    """Print the duration of trials alone, and alongside trials whose agent floods its tether."""
    alone = _seconds("replicator")
    flooded = _seconds("replicator", "tether_flooder")
    ratio = statistics.median(flooded) / statistics.median(alone)
    print(
        f"{TRIALS} trials, {MAX_CONCURRENT} concurrent: median {statistics.median(alone):.1f} s alone, "
        f"{statistics.median(flooded):.1f} s alongside a flood; ratio {ratio:.2f}; maximum {MAX_RATIO:g}"
    )


def _seconds(*controls: str) -> list[float]:
    """Return the duration of each trial of the first control, while the others run."""
    with tempfile.TemporaryDirectory() as folder:
        logs = eval(
            _task(),
            model=[get_model(f"redline/{control}", memoize=False) for control in controls],
            log_dir=folder,
            display="none",
            max_samples=MAX_CONCURRENT,
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
