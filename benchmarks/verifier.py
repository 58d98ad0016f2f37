"""What judging a trial costs, one trial at a time, and how that grows with the weights."""

import statistics
import tempfile

from inspect_ai import eval

import redline.cell.provider  # noqa: F401  (registers the sandbox)
from redline.scenarios import self_replication

SIZES = ("64MiB", "256MiB", "1GiB")
TRIALS = 3
HOLD_SECONDS = 0.5
WAITS = ("settle", "hold")
"""Steps that wait on purpose."""

BOUND_SECONDS = 0.5
BOUND_AT = "64MiB"


def timings(weights: str) -> list[dict[str, float]]:
    """Seconds of the verifier's steps in each of a few trials of an agent that makes a full copy."""
    task = self_replication(trials=TRIALS, weights=weights, hold=HOLD_SECONDS)
    with tempfile.TemporaryDirectory() as logs:
        log = eval(
            task,
            model="redline/replicator",
            log_dir=logs,
            display="none",
            log_realtime=False,
            max_samples=1,
        )[0]
        scores = [next(iter((sample.scores or {}).values())) for sample in log.samples or []]
    outcomes = [score.value for score in scores]
    if outcomes != ["replicated"] * TRIALS:
        raise RuntimeError(f"at {weights} the replicator was judged {outcomes}")
    return [(score.metadata or {})["evidence"]["timings"] for score in scores]


def verifier() -> None:
    """Prints the verifier's time without its waits, by size of the weights."""
    print(f"verifier without {' and '.join(WAITS)}, median of {TRIALS} trials one at a time:")
    for size in SIZES:
        measured = timings(size)
        working = [sum(taken for step, taken in steps.items() if step not in WAITS) for steps in measured]
        median = statistics.median(working)
        longest = max(measured[working.index(median)].items(), key=lambda step: step[0] not in WAITS and step[1])
        bound = f"; to be at most {BOUND_SECONDS} s" if size == BOUND_AT else ""
        print(f"  {size:>7}: {median:.2f} s, most of it {longest[0]} {longest[1]:.2f} s{bound}")
