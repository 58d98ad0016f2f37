"""What an agent did, planned and spent during its trial, as far as the signals need it.

The log is bounded and part of no verdict: an agent decides what it says and runs, so nothing here earns a milestone.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from redline._base import Frozen
from redline._text import clean, clean_line
from redline.tether.record import BoundedLog
from redline.verify._signs import signs

Obstacle = Literal["O1", "O2", "O3", "other"]
"""Kind of a failure: an unsuitable command, an improper environment, incorrect usage, or none of these is known."""

FAILED = re.compile(
    r"\A(?:exit status (?!0\b)\d+|killed after \d+)|\[(?:exit status \d+|stopped after \d+ seconds)\]\s*\Z"
)
"""Mark of a failed command in a loop's output: the loop in the cell prints the status first, the others last."""

READ_CHARACTERS = 4000
"""Maximum characters to read of a command (from its start) and of its result (from its end)."""


class Action(Frozen):
    """One command of the agent, with what its result shows."""

    at: float
    """Seconds since the trial began."""
    step: str
    """Kind of step, determined from the command's words."""
    obstacle: Obstacle | None
    """Why the command failed, determined from its output; None if it did not fail."""


class CommandSeen(Frozen):
    """One command of the agent and its output, for readers of the report. No verdict and no signal depends on it."""

    at: float
    """Seconds since the trial began."""
    command: str
    """The command, printable and truncated."""
    output: str
    """The end of its output, printable and truncated."""
    characters_left_out: int
    """Number of characters of both that are only in Inspect's log."""


class PlanSeen(Frozen):
    """The plans of an agent that is asked for a plan in each turn."""

    turns: int
    """Number of turns with a plan."""
    steps: tuple[str, ...]
    """Different steps in the order of their first mention; only the first and the last if there were too many."""
    left_out: int
    """Number of steps left out between them."""


class Spent(Frozen):
    """Cost of the model calls of one generation while the agent worked."""

    generation: int
    """0 for the original, 1 for a copy that it made, and so on."""
    calls: int
    """Number of model calls."""
    tokens: int
    """Tokens of these calls."""
    cost: float | None
    """Cost in USD, if prices are known."""


class ActivityLog:
    """Records the agent's activity during a trial."""

    def __init__(self) -> None:
        """Initialise an empty log without plans."""
        bounds = signs().bounds
        self._actions: BoundedLog[Action] = BoundedLog(bounds.actions)
        self._commands: BoundedLog[CommandSeen] = BoundedLog(bounds.commands)
        self._steps: BoundedLog[str] = BoundedLog(bounds.plan_steps)
        self._last_steps: set[str] = set()
        self._planned_turns: int | None = None
        self._spent: dict[int, Spent] = {}

    def add_command(self, at: float, command: str, result: str) -> None:
        """Record a command and its result."""
        step = step_of(command[:READ_CHARACTERS])
        self._actions.add(Action(at=at, step=step, obstacle=obstacle_of(command, result[-READ_CHARACTERS:])))
        self._commands.add(_seen(at, command, result))

    def expect_plans(self) -> None:
        """Record that the agent is asked for a plan in each turn."""
        self._planned_turns = 0

    def add_plan(self, steps: Iterable[str]) -> None:
        """Record the plan of a turn; a step that the previous turn planned too is not a new one."""
        lines = [clean_line(step, signs().bounds.plan_characters) for step in steps]
        for line in lines:
            if line not in self._last_steps:
                self._steps.add(line)
        self._last_steps = set(lines)
        self._planned_turns = (self._planned_turns or 0) + 1

    def add_spending(self, generation: int, tokens: int, cost: float | None) -> None:
        """Record a model call."""
        before = self._spent.get(generation, Spent(generation=generation, calls=0, tokens=0, cost=None))
        known = [each for each in (before.cost, cost) if each is not None]
        self._spent[generation] = Spent(
            generation=generation,
            calls=before.calls + 1,
            tokens=before.tokens + tokens,
            cost=sum(known) if known else None,
        )

    @property
    def actions(self) -> tuple[Action, ...]:
        """Return the commands, in order."""
        return self._actions.entries

    @property
    def actions_left_out(self) -> int:
        """Return the number of commands left out between the first and the last ones."""
        return self._actions.left_out

    @property
    def commands(self) -> tuple[CommandSeen, ...]:
        """Return the commands with their outputs, in order; only the first and the last if there were too many."""
        return self._commands.entries

    @property
    def commands_left_out(self) -> int:
        """Return the number of commands left out between the first and the last ones."""
        return self._commands.left_out

    @property
    def planned(self) -> PlanSeen | None:
        """Return what was planned; None if no plan was asked for."""
        if self._planned_turns is None:
            return None
        return PlanSeen(turns=self._planned_turns, steps=self._steps.entries, left_out=self._steps.left_out)

    @property
    def spending(self) -> tuple[Spent, ...]:
        """Return what was spent, by generation."""
        return tuple(self._spent[generation] for generation in sorted(self._spent))


def _seen(at: float, command: str, result: str) -> CommandSeen:
    bounds = signs().bounds
    of_command, of_output = bounds.command_characters, bounds.output_characters
    return CommandSeen(
        at=at,
        command=clean(command, of_command),
        output=clean(result[-of_output:], of_output),
        characters_left_out=max(len(command) - of_command, 0) + max(len(result) - of_output, 0),
    )


def step_of(command: str) -> str:
    """Return the kind of step of a command: the first kind of the data file whose pattern matches."""
    return next((name for name, pattern in signs().steps if pattern.search(command)), "other")


def obstacle_of(command: str, result: str) -> Obstacle | None:
    """Return why a command failed; None if it did not, or if a nonzero status is its answer."""
    if FAILED.search(result) is None or (_is_an_answer(command) and "[exit status 1]" in result):
        return None
    kinds: Sequence[Obstacle] = ("O2", "O1", "O3")
    return next((kind for kind in kinds if signs().obstacles[kind].search(result)), "other")


def _is_an_answer(command: str) -> bool:
    """Return whether the command ends with a program whose status 1 means "no"."""
    return signs().answers.search(command.strip().rpartition("\n")[2]) is not None
