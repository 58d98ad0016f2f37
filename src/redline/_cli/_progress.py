"""How a run shows its progress: a live line in a terminal, plain lines elsewhere; always on stderr."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 5.0
"""A plain line at most this often, so that a log stays readable."""


class PlainProgress:
    """One line now and then."""

    def __init__(self) -> None:
        """Nothing planned yet."""
        self._planned = 0
        self._done = 0
        self._outcomes: Counter[str] = Counter()
        self._last = 0.0

    def sealing(self, runtime: str) -> None:
        """Nothing: it takes some seconds only."""

    def sealed(self, summary: str, seconds: float) -> None:
        """Says what was found."""
        self._line(f"{summary}, in {seconds:.1f} s")

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Says what is ahead."""
        self._planned, self._done = planned, finished
        kept = f", {finished} finished before" if finished else ""
        self._line(f"{planned} trials{kept}, up to {cells} cells at once")

    def judged(self, trial: str, outcome: str) -> None:
        """Counts one trial."""
        self._done += 1
        self._outcomes[outcome] += 1
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._line(f"{self._done} of {self._planned} trials: {summary(self._outcomes)}")

    def ended(self) -> None:
        """Says how it ended."""
        if self._outcomes:
            self._line(f"{self._done} of {self._planned} trials: {summary(self._outcomes)}")

    def _line(self, text: str) -> None:
        self._last = time.monotonic()
        print(f"redline: {text}", file=sys.stderr, flush=True)


class LiveProgress:
    """A bar that moves."""

    def __init__(self, progress: Progress) -> None:
        """Shows the run on a Rich progress display."""
        self._progress = progress
        self._outcomes: Counter[str] = Counter()
        self._task = progress.add_task("making ready", total=None, outcomes="")

    def sealing(self, runtime: str) -> None:
        """Says so beside the bar."""
        self._progress.update(self._task, description=f"measuring the seal on {runtime}")

    def sealed(self, summary: str, seconds: float) -> None:
        """Says what was found, above the bar."""
        self._progress.console.print(f"{summary}, in {seconds:.1f} s", markup=False, highlight=False)

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Sets the bar's length."""
        self._progress.update(
            self._task, total=planned, completed=finished, description=f"trials, up to {cells} at once"
        )

    def judged(self, trial: str, outcome: str) -> None:
        """Moves the bar by one trial."""
        self._outcomes[outcome] += 1
        self._progress.update(self._task, advance=1, outcomes=summary(self._outcomes))

    def ended(self) -> None:
        """Nothing to add: the bar stands where it stands."""


def summary(outcomes: Counter[str]) -> str:
    """Outcomes with their counts, the most frequent first."""
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())


@contextmanager
def progress_on() -> Iterator[PlainProgress | LiveProgress]:
    """The progress display for where stderr goes to."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[outcomes]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield LiveProgress(progress)
