"""Who made whom: the engines that proved to hold the weights, in generations."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redline.tether.identity import Ancestor, Caller, ProcessLike
from redline.tether.record import Descent, EngineRecord, Refusal

_REPLIES_KEPT: Final = 512


@dataclass
class Engine:
    """An engine process and what it has done so far."""

    caller: Caller
    generation: int
    parent: "Engine | None"
    descent: Descent
    first_seen: float
    refused: Refusal | None = None
    calls: int = 0
    spot_proofs: int = 0
    whole_proofs: int = 0
    tokens: int = 0

    @property
    def is_original(self) -> bool:
        """Whether it is generation 0's."""
        return self.generation == 0

    def record(self) -> EngineRecord:
        """Return its entry for the record."""
        return EngineRecord(
            node=self.caller.node,
            pid=self.caller.pid,
            start=self.caller.start,
            generation=self.generation,
            parent=self.parent.caller.pid if self.parent else None,
            descent=self.descent,
            first_seen=round(self.first_seen, 4),
            refused=self.refused,
            calls=self.calls,
            spot_proofs=self.spot_proofs,
            whole_proofs=self.whole_proofs,
            tokens=self.tokens,
        )


class Lineage:
    """The engines of a trial by process, within a bound.

    The parent of a new engine is the nearest process above it that is known. A daemon has no such process left above
    it: then it is the engine that was told something last before the new one started. So it is where that process is
    generation 0's, under whose agent everything stands that it started and waits for, its replicas' work included.
    What counts as told: any answer through generation 0's engine, on which each turn of its agent depends, and an
    answer of the model that holds a block of code through a replica's. A greeting does not make a replica a parent.
    """

    def __init__(self, limit: int) -> None:
        """Know at most `limit` engines."""
        self._limit = limit
        self._engines: dict[Caller, Engine] = {}
        # The same by when each was last found, the latest last: fillers must not keep out a copy that comes later.
        self._recent: dict[Caller, None] = {}
        self._above: dict[Caller, Engine] = {}
        self._told: deque[tuple[float, Engine]] = deque(maxlen=_REPLIES_KEPT)
        self.original: Engine | None = None
        self.left_out = 0
        self.forgotten = 0

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All known engines in the order of first proofs."""
        return tuple(self._engines.values())

    @property
    def replicas_served(self) -> int:
        """Engines other than generation 0's that no cap keeps out."""
        kept = sum(not engine.is_original and engine.refused is None for engine in self._engines.values())
        return kept + self.forgotten

    def register_original(self, engine: ProcessLike, agent: ProcessLike, node: str) -> None:
        """Name the processes of generation 0."""
        caller = Caller(node, engine.pid, engine.start)
        self.original = Engine(caller, 0, None, "original", first_seen=0.0)
        self._engines[caller] = self._above[caller] = self.original
        self._above[Caller(node, agent.pid, agent.start)] = self.original

    def find(self, caller: Caller) -> Engine | None:
        """Return the engine of a process, if it is known."""
        if caller in self._recent:
            self._recent[caller] = self._recent.pop(caller)
        return self._engines.get(caller)

    def meet(self, caller: Caller, ancestors: Sequence[Ancestor], started: float, at: float) -> Engine:
        """Take in a process that proved to hold the weights for the first time.

        Args:
            caller: The process.
            ancestors: Those above it, nearest first.
            started: When it started, on the clock since boot.
            at: When it proved, on the broker's clock.
        """
        parent, descent = self._parent(caller.node, ancestors, started)
        engine = Engine(caller, parent.generation + 1 if parent else 1, parent, descent, first_seen=at)
        if len(self._engines) >= self._limit:
            self.left_out += 1
            if not self._forget_one(keep=parent):
                return engine
        self._engines[caller] = self._above[caller] = engine
        self._recent[caller] = None
        return engine

    def _forget_one(self, keep: Engine | None) -> bool:
        """Forget the engine that proved nothing for the longest time and is no parent; False if there is none.

        A process that is forgotten and proves again is taken in again.
        """
        parents = {id(engine.parent) for engine in self._engines.values() if engine.parent is not None}
        for caller in self._recent:
            engine = self._engines[caller]
            if engine is not keep and id(engine) not in parents:
                del self._engines[caller], self._above[caller], self._recent[caller]
                self.forgotten += engine.refused is None
                return True
        return False

    def record_reply(self, engine: Engine, content: str, *, by_model: bool) -> None:
        """Note that an answer went through an engine."""
        if engine.is_original or (by_model and "```" in content):
            self._told.append((time.clock_gettime(time.CLOCK_BOOTTIME), engine))

    def _parent(self, node: str, ancestors: Sequence[Ancestor], started: float) -> tuple[Engine | None, Descent]:
        told = next((engine for at, engine in reversed(self._told) if at <= started), self.original)
        for ancestor in ancestors:
            # Parents are of the same node: nodes share no process but the machine's.
            above = self._above.get(Caller(node, ancestor.pid, ancestor.start))
            if above is not None:
                # While generation 0's agent waits for a command, what a replica's agent does under it is the replica's.
                return (told, "timing") if above.is_original and told is not above else (above, "ancestry")
        return told, "timing"
