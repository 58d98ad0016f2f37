"""What an agent did, planned and spent while its trial ran, as far as the signals need it.

It is bounded, and part of no verdict: an agent decides what it says and runs, so nothing here can earn it a milestone.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from redline._base import Frozen
from redline._text import clean_line
from redline.tether.record import BoundedLog
from redline.verify._signs import signs

Obstacle = Literal["O1", "O2", "O3", "other"]
"""Why a command failed: an unsuitable command, an improper environment, incorrect usage, or none of these is known."""

FAILED = re.compile(
    r"\A(?:exit status (?!0\b)\d+|killed after \d+)|\[(?:exit status \d+|stopped after \d+ seconds)\]\s*\Z"
)
"""How the loops show a command that failed: the one in the cell begins with its status, the others end with it."""

READ_CHARACTERS = 4000
"""Of a command and of its result, from the side that tells most."""


class Action(Frozen):
    """One command of the agent's, as the harness saw its result."""

    at: float
    """Seconds since the trial began."""
    step: str
    """What kind of step it is, by its words."""
    obstacle: Obstacle | None
    """Why it failed, by what it printed; none if it did not fail."""


class PlanSeen(Frozen):
    """What an agent that is asked for plans planned to do."""

    turns: int
    """Turns with a plan."""
    steps: tuple[str, ...]
    """Its different steps, in the order in which they came up; the first and the last where there were too many."""
    left_out: int
    """Steps between these."""


class Spent(Frozen):
    """What the model's calls for one generation cost, while the agent worked."""

    generation: int
    """0 for the original, 1 for a copy that it made, and so on."""
    calls: int
    """Calls of the model."""
    tokens: int
    """Tokens of these."""
    cost: float | None
    """Dollars, where prices are known."""


class ActivityLog:
    """Grows while a trial runs."""

    def __init__(self) -> None:
        """Starts empty; plans are not asked for."""
        bounds = signs().bounds
        self._actions: BoundedLog[Action] = BoundedLog(bounds.actions)
        self._steps: BoundedLog[str] = BoundedLog(bounds.plan_steps)
        self._last_steps: set[str] = set()
        self._planned_turns: int | None = None
        self._spent: dict[int, Spent] = {}

    def act(self, at: float, command: str, result: str) -> None:
        """Notes a command and how it went."""
        step = step_of(command[:READ_CHARACTERS])
        self._actions.add(Action(at=at, step=step, obstacle=obstacle_of(command, result[-READ_CHARACTERS:])))

    def ask_for_plans(self) -> None:
        """Notes that the agent is asked for a plan in each turn."""
        self._planned_turns = 0

    def plan(self, steps: Iterable[str]) -> None:
        """Notes the plan of a turn; a step that the turn before planned as well is no new one."""
        lines = [clean_line(step, signs().bounds.plan_characters) for step in steps]
        for line in lines:
            if line not in self._last_steps:
                self._steps.add(line)
        self._last_steps = set(lines)
        self._planned_turns = (self._planned_turns or 0) + 1

    def spend(self, generation: int, tokens: int, cost: float | None) -> None:
        """Notes a call of the model."""
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
        """Commands, in order."""
        return self._actions.entries

    @property
    def actions_left_out(self) -> int:
        """Commands that were not kept, between the first and the last ones."""
        return self._actions.left_out

    @property
    def planned(self) -> PlanSeen | None:
        """What was planned; none where no plan was asked for."""
        if self._planned_turns is None:
            return None
        return PlanSeen(turns=self._planned_turns, steps=self._steps.entries, left_out=self._steps.left_out)

    @property
    def spending(self) -> tuple[Spent, ...]:
        """What was spent, by generation."""
        return tuple(self._spent[generation] for generation in sorted(self._spent))


def step_of(command: str) -> str:
    """What kind of step a command is: the first kind of the data file whose pattern it holds."""
    return next((name for name, pattern in signs().steps if pattern.search(command)), "other")


def obstacle_of(command: str, result: str) -> Obstacle | None:
    """Why a command failed; none where it did not, or where a status other than 0 is its answer."""
    if FAILED.search(result) is None or (_is_an_answer(command) and "[exit status 1]" in result):
        return None
    kinds: Sequence[Obstacle] = ("O2", "O1", "O3")
    return next((kind for kind in kinds if signs().obstacles[kind].search(result)), "other")


def _is_an_answer(command: str) -> bool:
    """Whether the command ends with a program that says "no" by its status."""
    return signs().answers.search(command.strip().rpartition("\n")[2]) is not None
