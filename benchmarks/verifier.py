"""Duration and memory of judging a trial, one trial at a time, by size of the weights."""

import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
from inspect_ai import eval

import redline.cell.provider  # noqa: F401 - to import it registers the sandbox
from redline.cell.open import choose_runtime
from redline.scenarios.self_replication import self_replication

MIB, GIB = 2**20, 2**30
SIZES = {64 * MIB: 5, 256 * MIB: 3, GIB: 3, 4 * GIB: 1}
"""Sizes of the weights in bytes, and the number of trials with each."""

ROOM = 3
"""Required free memory as a multiple of the weights: a trial keeps two copies in memory, and a third is spare."""

HOLD_SECONDS = 0.5
WAITS = ("settle", "hold")
"""Steps that wait on purpose."""

MAX_SECONDS, MAX_SECONDS_AT = 0.5, 64 * MIB
MAX_SLOPE_RATIO = 1.5
MAX_MEMORY_GROWTH = 64 * MIB
SAMPLE_SECONDS = 0.25


@dataclass
class Memory:
    """The peak memory of the harness."""

    own: int = 0
    """Bytes of the harness's own process."""

    helpers: int = 0
    """Bytes of the largest child process that is in no cell."""


@dataclass(frozen=True)
class Measured:
    """Trials with weights of one size."""

    size: int
    steps: list[dict[str, float]]
    memory: Memory = field(default_factory=Memory)

    @property
    def seconds(self) -> list[float]:
        """The verifier's time in each trial, without the waits."""
        return [sum(taken for step, taken in steps.items() if step not in WAITS) for steps in self.steps]


@contextmanager
def watched_memory() -> Iterator[Memory]:
    """Measure the memory of the harness during the block."""
    peak, over = Memory(), threading.Event()

    def watch() -> None:
        harness, home = psutil.Process(), os.readlink("/proc/self/ns/pid")
        while not over.wait(SAMPLE_SECONDS):
            peak.own = max(peak.own, harness.memory_info().rss)
            for process in harness.children(recursive=True):
                try:
                    if os.readlink(f"/proc/{process.pid}/ns/pid") == home:
                        peak.helpers = max(peak.helpers, process.memory_info().rss)
                except (OSError, psutil.Error):
                    continue  # the process has ended

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def measured(size: int, trials: int) -> Measured:
    """Run trials of an agent that makes a full copy, and return their timings."""
    task = self_replication(trials=trials, weights=f"{size // MIB}MiB", hold=HOLD_SECONDS)
    with tempfile.TemporaryDirectory() as logs, watched_memory() as memory:
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
    if outcomes != ["replicated"] * trials:
        raise RuntimeError(f"with {size // MIB} MiB of weights the replicator was judged {outcomes}")
    return Measured(size, [(score.metadata or {})["evidence"]["timings"] for score in scores], memory)


def verifier() -> None:
    """Print the verifier's time without the waits, and the harness's memory, by size of the weights."""
    load, processors = os.getloadavg()[0], os.cpu_count()
    runtime = choose_runtime("auto").name
    print(f"verifier on {runtime} without {' and '.join(WAITS)}, one trial at a time,", end=" ")
    print(f"load {load:.1f} on {processors} processors:")
    found = []
    for size, trials in SIZES.items():
        if psutil.virtual_memory().available < ROOM * size:
            print(f"  {size // MIB:>5} MiB: skipped, it needs {ROOM * size // GIB} GiB of free memory")
            continue
        found.append(measured(size, trials))
        print(f"  {_line(found[-1])}")
    _growth(found)


def _line(of: Measured) -> str:
    median = statistics.median_low(of.seconds)
    step, taken = max(of.steps[of.seconds.index(median)].items(), key=lambda one: one[0] not in WAITS and one[1])
    maximum = f"; maximum {MAX_SECONDS} s" if of.size == MAX_SECONDS_AT else ""
    return (
        f"{of.size // MIB:>5} MiB: median {median:.2f} s ({min(of.seconds):.2f} to {max(of.seconds):.2f}, "
        f"{len(of.seconds)} trials){maximum}; longest step {step} {taken:.2f} s; "
        f"harness {of.memory.own // MIB} MiB, largest helper {of.memory.helpers // MIB} MiB"
    )


def _growth(found: list[Measured]) -> None:
    """Print the growth of time, which must be linear in the weights, and of memory, which must be constant."""
    least = [(one.size, min(one.seconds)) for one in found]
    slopes = [GIB * (b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(least, least[1:], strict=False)]
    shown = ", ".join(f"{slope:.2f}" for slope in slopes)
    print(f"  seconds per additional GiB: {shown}; the last at most {MAX_SLOPE_RATIO} times the one before")
    for kind in ("own", "helpers"):
        amounts = [int(vars(one.memory)[kind]) for one in found]
        print(f"  memory, {kind}: {(max(amounts) - amounts[0]) // MIB} MiB more than at the smallest size", end="; ")
        print(f"maximum {MAX_MEMORY_GROWTH // MIB} MiB")
