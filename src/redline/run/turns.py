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
"""A trial that is not there so long after the last one started loses its turn, so that no condition holds up others."""


def drawn_order(conditions: Sequence[Sequence[str]], seed: int) -> list[str]:
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


class Turns:
    """Lets trials start one after the other in a given order; how many run at once is for others to say."""

    def __init__(self, order: Sequence[str], patience: float = PATIENCE_SECONDS) -> None:
        """Awaits the trials of an order.

        Args:
            order: Every trial that is still to be drawn.
            patience: Seconds after which a trial that is not there loses its turn.
        """
        self._left = deque(order)
        self._waiting: dict[str, anyio.Event] = {}
        self._patience = patience

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
        finally:
            del self._waiting[trial]
            if turn.is_set() and self._left and self._left[0] == trial:
                self._left.popleft()
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
                self._skip_the_absent()

    def _call(self) -> None:
        if self._left and self._left[0] in self._waiting:
            self._waiting[self._left[0]].set()

    def _skip_the_absent(self) -> None:
        while self._left and self._left[0] not in self._waiting:
            self._left.popleft()
        self._call()
