"""The order in which trials start: drawn from the plan's seed, so that the time of day speaks for no arm.

Trials of equal number, which share their seed across arms and models, make a block; within a block the order of
conditions is drawn. What changes while a run goes on, such as a model's provider or the load of the machine, then falls
on all conditions alike.
"""

import random
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest

import anyio

PATIENCE_SECONDS = 30.0
"""So long after the last start the next trial that is there goes on, whatever is missing before it or seems to run yet:
neither a condition that Inspect gave up nor a trial whose end it does not tell holds up the others."""


def run_order(conditions: Sequence[Sequence[str]], seed: int) -> list[str]:
    """The order of all trials.

    Args:
        conditions: The trials of each condition, in the order of their numbers.
        seed: The plan's seed.
    """
    order = []
    for number, block in enumerate(zip_longest(*conditions)):
        trials = [trial for trial in block if trial is not None]
        random.Random(f"order:{seed}:{number}").shuffle(trials)
        order += trials
    return order


AHEAD = 2
"""Trials that are let through to wait for a cell, so that none stands empty until the next one has come."""


class TrialScheduler:
    """Lets trials start in a given order, so many at once.

    Inspect bounds the cells at once, too, but has everybody who wants one wait for up to a second, by chance, before
    queuing for it. So few more are let through to it than there are cells, and what starts together may change places.
    """

    def __init__(self, order: Sequence[str], at_once: int, patience: float = PATIENCE_SECONDS) -> None:
        """Awaits the trials of an order.

        Args:
            order: Every trial that is still to be drawn.
            at_once: How many may be under way at the same time.
            patience: Seconds after which the next trial that is there goes on in any case.
        """
        self._left = deque(order)
        self._at_once = at_once
        self._patience = patience
        self._running: set[str] = set()
        self._waiting: dict[str, anyio.Event] = {}

    async def take(self, trial: str) -> None:
        """Returns when it is the trial's turn; at once for a trial that has none or has lost it.

        The next is called only once this one goes on: of several that are woken together, the first need not be first.
        """
        if trial not in self._left:
            return
        turn = self._waiting[trial] = anyio.Event()
        try:
            self._call()
            await self._until(turn)
            self._running.add(trial)
        finally:
            del self._waiting[trial]
            if turn.is_set() and self._left and self._left[0] == trial:
                self._left.popleft()
            self._call()

    def end(self, trial: str) -> None:
        """Says that a trial has ended, so that the next may start."""
        self._running.discard(trial)
        self._call()

    def release(self) -> None:
        """Ends the order: every trial that waits may go, and none waits any more."""
        self._left.clear()
        for turn in self._waiting.values():
            turn.set()

    async def _until(self, turn: anyio.Event) -> None:
        while True:
            left = len(self._left)
            with anyio.move_on_after(self._patience):
                await turn.wait()
                return
            if len(self._left) == left:
                self._go_on()

    def _call(self) -> None:
        if self._left and self._left[0] in self._waiting and len(self._running) < self._at_once:
            self._waiting[self._left[0]].set()

    def _go_on(self) -> None:
        """Calls the first trial that is there; those before it have lost their turn."""
        while self._left and self._left[0] not in self._waiting:
            self._left.popleft()
        if self._left:
            self._waiting[self._left[0]].set()
