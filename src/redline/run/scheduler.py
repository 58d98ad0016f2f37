"""The order in which trials start: randomised by the plan's seed, so that the time of day favours no arm.

Trials of equal number, which share their seed across arms and models, form a block. The order of conditions within a
block is random. So changes during a run, such as of a model's provider or the load of the host, affect all conditions
alike.
"""

import random
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest

import anyio

from redline.run.cell_budget import CellBudget

STALL_SECONDS = 30.0
"""If no trial starts for this long, the next waiting trial starts out of order. So neither a condition that Inspect
abandoned nor a trial whose end it does not report can block the others."""


def run_order(conditions: Sequence[Sequence[str]], seed: int) -> list[str]:
    """Return the order of all trials.

    Args:
        conditions: Trials of each condition, in the order of their numbers.
        seed: The plan's seed.
    """
    order = []
    for number, block in enumerate(zip_longest(*conditions)):
        trials = [trial for trial in block if trial is not None]
        random.Random(f"order:{seed}:{number}").shuffle(trials)
        order += trials
    return order


POLL_SECONDS = 1.0
"""Time between two looks at the budget while a trial waits for its turn."""

AHEAD = 2
"""Trials admitted beyond a fixed number of cells, so that no cell stays unused between two trials; Inspect then
bounds the cells."""


class TrialScheduler:
    """Starts trials in a given order, with bounded concurrency.

    Inspect also limits the number of cells, but delays every request by up to a random second before it queues for one.
    So only a few more trials than cells are admitted, and trials that start together can swap positions.
    """

    def __init__(
        self, order: Sequence[str], budget: CellBudget, ahead: int = 0, stall_seconds: float = STALL_SECONDS
    ) -> None:
        """Store the order; start nothing yet.

        Args:
            order: Every remaining trial.
            budget: Number of cells that may run now.
            ahead: Number of trials that are admitted beyond them.
            stall_seconds: Time without a start after which the next waiting trial starts out of order.
        """
        self._left = deque(order)
        self._budget = budget
        self._ahead = ahead
        self._stall_seconds = stall_seconds
        self._running: set[str] = set()
        self._waiting: dict[str, anyio.Event] = {}

    async def wait_turn(self, trial: str) -> None:
        """Return when it is the trial's turn; at once for a trial that has no turn or has lost it.

        The next trial is woken only after this one has resumed, because several tasks that are woken together resume in
        any order.
        """
        if trial not in self._left:
            return
        turn = self._waiting[trial] = anyio.Event()
        try:
            self._wake_next()
            await self._wait_until(turn)
            self._running.add(trial)
        finally:
            del self._waiting[trial]
            if turn.is_set() and self._left and self._left[0] == trial:
                self._left.popleft()
            self._wake_next()

    def end(self, trial: str) -> None:
        """Record that a trial has ended, so that the next can start."""
        self._running.discard(trial)
        self._wake_next()

    def release(self) -> None:
        """Abandon the order: wake every waiting trial, and let later ones pass at once."""
        self._left.clear()
        for turn in self._waiting.values():
            turn.set()

    async def _wait_until(self, turn: anyio.Event) -> None:
        left, since = len(self._left), anyio.current_time()
        while True:
            with anyio.move_on_after(min(POLL_SECONDS, self._stall_seconds)):
                await turn.wait()
                return
            self._budget.update(len(self._running))
            self._wake_next()
            if len(self._left) != left:
                left, since = len(self._left), anyio.current_time()
            elif anyio.current_time() - since >= self._stall_seconds:
                self._skip_missing()

    def _wake_next(self) -> None:
        if self._left and self._left[0] in self._waiting and self._may_start(self._ahead):
            self._waiting[self._left[0]].set()

    def _may_start(self, ahead: int = 0) -> bool:
        return len(self._running) < self._budget.allowed + ahead

    def _skip_missing(self) -> None:
        """Wake the first waiting trial; missing trials before it lose their turn."""
        while self._left and self._left[0] not in self._waiting:
            self._left.popleft()
        # If the number of cells is fixed, Inspect bounds the cells as well.
        if self._left and (self._budget.is_fixed or self._may_start()):
            self._waiting[self._left[0]].set()
