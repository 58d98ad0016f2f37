"""How a run shows its progress: a live view in a terminal, plain lines elsewhere, or nothing; always on stderr."""

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

from redline._cli._say import say
from redline._text import LONGEST_LINE, clean_line

if TYPE_CHECKING:
    from redline.run.watch import Spent, Watcher

PLAIN_SECONDS = 5.0
"""A plain line at most this often, so that a log stays readable."""

MINUTE, HOUR = 60, 3600


@dataclass
class Tally:
    """What is known of a run so far."""

    planned: int = 0
    finished_before: int = 0
    began: float = field(default_factory=time.monotonic)
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost: float = 0.0

    def add(self, outcome: str, spent: "Spent") -> None:
        """Counts one trial."""
        self.outcomes[clean_line(outcome)] += 1
        self.tokens += spent.tokens
        self.cost += spent.cost

    @property
    def done(self) -> int:
        """Trials that are judged, those of earlier commands among them."""
        return self.finished_before + self.outcomes.total()

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the rate so far; None where there is none yet."""
        drawn, left = self.outcomes.total(), self.planned - self.done
        return (time.monotonic() - self.began) / drawn * left if drawn and left > 0 else None

    def words(self) -> str:
        """Outcomes, the most frequent first, what they took, and how long the rest will."""
        parts = [", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())]
        parts += [f"{self.tokens:,} tokens"] if self.tokens else []
        parts += [f"${self.cost:.2f}"] if self.cost else []
        left = self.seconds_left
        parts += [] if left is None else [f"about {duration(left)} left"]
        return "; ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """A time as one says it."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"


def waiting_words(model: str, seconds: float, fault: str) -> str:
    """Return a line for a wait: which model, since when, and why."""
    return clean_line(f"waiting for the model {model} since {duration(seconds)}: {fault}", LONGEST_LINE)


class Silent:
    """Nothing at all."""

    def checked(self, line: str) -> None:
        """Nothing."""

    def sealing(self, runtime: str) -> None:
        """Nothing."""

    def sealed(self, summary: str, seconds: float) -> None:
        """Nothing."""

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Nothing."""

    def judged(self, trial: str, outcome: str, spent: "Spent") -> None:
        """Nothing."""

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Nothing."""

    def ended(self) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Say it all the same: it answers what the user did, or says why the run takes longer."""
        say(line)


class PlainProgress:
    """One line now and then."""

    def __init__(self) -> None:
        """Nothing planned yet."""
        self._tally = Tally()
        self._last = 0.0
        self._last_wait: float | None = None

    def checked(self, line: str) -> None:
        """Print it."""
        self._line(line)

    def sealing(self, runtime: str) -> None:
        """Nothing: it takes some seconds only."""

    def sealed(self, summary: str, seconds: float) -> None:
        """Says what was found."""
        self._line(f"{summary}, in {seconds:.1f} s")

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Says what is ahead."""
        self._tally = Tally(planned, finished)
        kept = f", {finished} finished before" if finished else ""
        self._line(f"{planned} trials{kept}, up to {cells} cells at once")

    def judged(self, trial: str, outcome: str, spent: "Spent") -> None:
        """Counts one trial."""
        self._tally.add(outcome, spent)
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._line(self._so_far())

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Say so, now and then."""
        if not seconds:
            self._last_wait = None
            self._line(f"{model} answers again")
        elif self._last_wait is None or time.monotonic() - self._last_wait >= MINUTE:
            self._last_wait = time.monotonic()
            self._line(waiting_words(model, seconds, fault))

    def ended(self) -> None:
        """Says how it ended."""
        if self._tally.outcomes:
            self._line(self._so_far())

    def note(self, line: str) -> None:
        """Print the line."""
        self._line(line)

    def _so_far(self) -> str:
        return f"{self._tally.done} of {self._tally.planned} trials: {self._tally.words()}"

    def _line(self, text: str) -> None:
        self._last = time.monotonic()
        say(text)


class LiveProgress:
    """A bar that moves, and below it what came of the trials so far."""

    def __init__(self, console: Console) -> None:
        """Shows the run on a terminal."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._tally = Tally()
        self._waits: dict[str, str] = {}
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("making ready", total=None)
        self.live = Live(console=console, transient=True, get_renderable=self._view)

    def _view(self) -> Group:
        lines = (self._tally.words(), *self._waits.values())
        return Group(self._bar, *(Text(line, overflow="fold") for line in lines))

    def checked(self, line: str) -> None:
        """Print it above the bar."""
        self.live.console.print(Text(clean_line(line, LONGEST_LINE)))

    def sealing(self, runtime: str) -> None:
        """Says so beside the bar."""
        self._bar.update(self._task, description=f"measuring the seal on {runtime}")

    def sealed(self, summary: str, seconds: float) -> None:
        """Says what was found, above the bar."""
        self.live.console.print(Text(clean_line(f"{summary}, in {seconds:.1f} s", LONGEST_LINE)))

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Sets the bar's length."""
        self._tally = Tally(planned, finished)
        self._bar.update(self._task, total=planned, completed=finished, description=f"trials, up to {cells} at once")

    def judged(self, trial: str, outcome: str, spent: "Spent") -> None:
        """Moves the bar by one trial."""
        self._tally.add(outcome, spent)
        self._bar.update(self._task, completed=self._tally.done)

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Show it below the bar for as long as it lasts."""
        if seconds:
            self._waits = {**self._waits, model: waiting_words(model, seconds, fault)}
        else:
            self._waits = {name: words for name, words in self._waits.items() if name != model}

    def ended(self) -> None:
        """Nothing to add: the table follows."""

    def note(self, line: str) -> None:
        """Print the line above the bar."""
        self.live.console.print(Text(clean_line(line, LONGEST_LINE)))


@contextmanager
def progress_on(*, quiet: bool = False) -> Iterator["Watcher"]:
    """The progress display for where stderr goes to."""
    console = Console(stderr=True)
    if quiet:
        yield Silent()
    elif not console.is_terminal or console.is_dumb_terminal:
        yield PlainProgress()
    else:
        progress = LiveProgress(console)
        with progress.live:
            yield progress
