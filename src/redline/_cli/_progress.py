"""Progress of a run on stderr: a live view in a terminal, plain lines elsewhere, or nothing."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from redline._cli._messages import print_message
from redline._text import LONGEST_LINE, clean_line, counted

if TYPE_CHECKING:
    from redline.run.watch import Spent, Watcher

PLAIN_SECONDS = 5.0
"""Minimum interval between plain lines, so that a log stays readable."""

MINUTE, HOUR = 60, 3600


@dataclass
class Tally:
    """The running totals of a run."""

    planned: int = 0
    finished_before: int = 0
    began: float = field(default_factory=time.monotonic)
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost: float = 0.0

    def add(self, outcome: str, spent: "Spent") -> None:
        """Add one trial."""
        self.outcomes[clean_line(outcome)] += 1
        self.tokens += spent.tokens
        self.cost += spent.cost

    @property
    def done(self) -> int:
        """Number of judged trials, including those of earlier commands."""
        return self.finished_before + self.outcomes.total()

    @property
    def seconds_left(self) -> float | None:
        """Estimated time for the remaining trials; None before the first trial finishes."""
        finished, left = self.outcomes.total(), self.planned - self.done
        return (time.monotonic() - self.began) / finished * left if finished and left > 0 else None

    def words(self) -> str:
        """Return the outcomes, the most frequent first, with tokens, cost and remaining time."""
        parts = [", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())]
        parts += [f"{self.tokens:,} tokens"] if self.tokens else []
        parts += [f"${self.cost:.2f}"] if self.cost else []
        left = self.seconds_left
        parts += [] if left is None else [f"about {duration(left)} left"]
        return "; ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Format a duration, such as `5 min`."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"


def waiting_words(model: str, seconds: float, fault: str) -> str:
    """Return the line for a wait: model, duration and reason."""
    return clean_line(f"waiting for the model {model} for {duration(seconds)}: {fault}", LONGEST_LINE)


class SilentProgress:
    """A progress display that prints only notes."""

    def checked(self, line: str) -> None:
        """Print nothing."""

    def sealing(self, runtime: str) -> None:
        """Print nothing."""

    def sealed(self, summary: str, seconds: float) -> None:
        """Print nothing."""

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Print nothing."""

    def judged(self, trial: str, outcome: str, spent: "Spent") -> None:
        """Print nothing."""

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Print nothing."""

    def ended(self) -> None:
        """Print nothing."""

    def note(self, line: str) -> None:
        """Print the line: it answers a user action or explains a delay."""
        print_message(line)


class PlainProgress:
    """A progress display that prints a line at intervals."""

    def __init__(self) -> None:
        """Initialise empty totals."""
        self._tally = Tally()
        self._last = 0.0
        self._last_wait: float | None = None

    def checked(self, line: str) -> None:
        """Print the line."""
        self._line(line)

    def sealing(self, runtime: str) -> None:
        """Print nothing: measuring the seal takes only a few seconds."""

    def sealed(self, summary: str, seconds: float) -> None:
        """Print the result of the seal measurement."""
        self._line(f"{summary}, in {seconds:.1f} s")

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Print the number of trials and cells."""
        self._tally = Tally(planned, finished)
        kept = f", {finished} already finished" if finished else ""
        at_once = counted(max(1, min(cells, planned - finished)), "concurrent cell")
        self._line(f"{counted(planned, 'trial')}{kept}, up to {at_once}")

    def judged(self, trial: str, outcome: str, spent: "Spent") -> None:
        """Count the trial; print a line if the last one is old enough."""
        self._tally.add(outcome, spent)
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._line(self._so_far())

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Print the wait once a minute, and its end."""
        if not seconds:
            self._last_wait = None
            self._line(f"{model} is responding again")
        elif self._last_wait is None or time.monotonic() - self._last_wait >= MINUTE:
            self._last_wait = time.monotonic()
            self._line(waiting_words(model, seconds, fault))

    def ended(self) -> None:
        """Print the final totals."""
        if self._tally.outcomes:
            self._line(self._so_far())

    def note(self, line: str) -> None:
        """Print the line."""
        self._line(line)

    def _so_far(self) -> str:
        return f"{self._tally.done} of {counted(self._tally.planned, 'trial')}: {self._tally.words()}"

    def _line(self, text: str) -> None:
        self._last = time.monotonic()
        print_message(text)


class LiveProgress:
    """A progress bar with the outcomes so far below it."""

    def __init__(self, console: Console) -> None:
        """Create the display on a terminal."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._tally = Tally()
        self._waits: dict[str, str] = {}
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("preparing", total=None)
        self.live = Live(console=console, transient=True, get_renderable=self._view)

    def _view(self) -> Group:
        lines = (self._tally.words(), *self._waits.values())
        return Group(self._bar, *(Text(line, overflow="fold") for line in lines))

    def checked(self, line: str) -> None:
        """Print the line above the bar."""
        self.live.console.print(Text(clean_line(line, LONGEST_LINE)))

    def sealing(self, runtime: str) -> None:
        """Show the step next to the bar."""
        self._bar.update(self._task, description=f"measuring the seal on {runtime}")

    def sealed(self, summary: str, seconds: float) -> None:
        """Print the result of the seal measurement above the bar."""
        self.live.console.print(Text(clean_line(f"{summary}, in {seconds:.1f} s", LONGEST_LINE)))

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Set the length of the bar."""
        self._tally = Tally(planned, finished)
        self._bar.update(
            self._task, total=planned, completed=finished, description=f"trials, up to {cells} concurrently"
        )

    def judged(self, trial: str, outcome: str, spent: "Spent") -> None:
        """Advance the bar by one trial."""
        self._tally.add(outcome, spent)
        self._bar.update(self._task, completed=self._tally.done)

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Show the wait below the bar until it ends."""
        if seconds:
            self._waits = {**self._waits, model: waiting_words(model, seconds, fault)}
        else:
            self._waits = {name: words for name, words in self._waits.items() if name != model}

    def ended(self) -> None:
        """Print nothing: the results table follows."""

    def note(self, line: str) -> None:
        """Print the line above the bar."""
        self.live.console.print(Text(clean_line(line, LONGEST_LINE)))


@contextmanager
def progress_on(*, quiet: bool = False) -> Iterator["Watcher"]:
    """Yield the progress display that fits stderr."""
    console = Console(stderr=True)
    if quiet:
        yield SilentProgress()
    elif not console.is_terminal or console.is_dumb_terminal:
        yield PlainProgress()
    else:
        progress = LiveProgress(console)
        with progress.live:
            yield progress
