"""The lineage: the engines that proved that they hold the weights, their parents and their generations."""

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
    """An engine process and its calls so far."""

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
        """Whether it is the engine of generation 0."""
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
    """The engines of a trial by process, limited in number.

    The parent of a new engine is its nearest known ancestor. A daemon has no known ancestor; its parent is the engine
    that received the last instructing reply before the daemon started. The same rule applies if the nearest known
    ancestor belongs to generation 0, because generation 0's agent is an ancestor of everything that runs while it waits
    for a command, including the work of its replicas. An instructing reply is any reply to generation 0's engine
    (each turn of its agent depends on one), or a model's reply to a replica's engine that contains a block of code.
    A greeting does not make a replica a parent.
    """

    def __init__(self, limit: int) -> None:
        """Start with no engine; keep at most `limit`."""
        self._limit = limit
        self._engines: dict[Caller, Engine] = {}
        # Ordered by last use, latest last, so that filler processes cannot keep out a later copy.
        self._recent: dict[Caller, None] = {}
        self._by_process: dict[Caller, Engine] = {}
        self._instructed: deque[tuple[float, Engine]] = deque(maxlen=_REPLIES_KEPT)
        self.original: Engine | None = None
        self.left_out = 0
        self.forgotten = 0

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All known engines in the order of first proofs."""
        return tuple(self._engines.values())

    @property
    def replicas_served(self) -> int:
        """Number of engines within the caps, other than generation 0's."""
        served = sum(not engine.is_original and engine.refused is None for engine in self._engines.values())
        return served + self.forgotten

    def register_original(self, engine: ProcessLike, agent: ProcessLike, node: str) -> None:
        """Register the processes of generation 0."""
        caller = Caller(node, engine.pid, engine.start)
        self.original = Engine(caller, 0, None, "original", first_seen=0.0)
        self._engines[caller] = self._by_process[caller] = self.original
        self._by_process[Caller(node, agent.pid, agent.start)] = self.original

    def find(self, caller: Caller) -> Engine | None:
        """Return the engine of a process, or None if it is unknown."""
        if caller in self._recent:
            self._recent[caller] = self._recent.pop(caller)
        return self._engines.get(caller)

    def add(self, caller: Caller, ancestors: Sequence[Ancestor], started: float, at: float) -> Engine:
        """Add a process that proved for the first time that it holds the weights.

        Args:
            caller: The process.
            ancestors: Its ancestors, nearest first.
            started: Its start time on the clock since boot.
            at: Time of the proof on the broker's clock.
        """
        parent, descent = self._parent(caller.node, ancestors, started)
        engine = Engine(caller, parent.generation + 1 if parent else 1, parent, descent, first_seen=at)
        if len(self._engines) >= self._limit:
            self.left_out += 1
            if not self._forget_one(keep=parent):
                return engine
        self._engines[caller] = self._by_process[caller] = engine
        self._recent[caller] = None
        return engine

    def _forget_one(self, keep: Engine | None) -> bool:
        """Forget the least recently used engine that is not a parent; return False if there is none.

        A forgotten process that proves again is added again.
        """
        parents = {id(engine.parent) for engine in self._engines.values() if engine.parent is not None}
        for caller in self._recent:
            engine = self._engines[caller]
            if engine is not keep and id(engine) not in parents:
                del self._engines[caller], self._by_process[caller], self._recent[caller]
                self.forgotten += engine.refused is None
                return True
        return False

    def record_reply(self, engine: Engine, content: str, *, by_model: bool) -> None:
        """Record an answer that was sent to an engine."""
        if engine.is_original or (by_model and "```" in content):
            self._instructed.append((time.clock_gettime(time.CLOCK_BOOTTIME), engine))

    def _parent(self, node: str, ancestors: Sequence[Ancestor], started: float) -> tuple[Engine | None, Descent]:
        instructed = next((engine for at, engine in reversed(self._instructed) if at <= started), self.original)
        for ancestor in ancestors:
            # A parent belongs to the same node, since nodes share no processes.
            known = self._by_process.get(Caller(node, ancestor.pid, ancestor.start))
            if known is not None:
                # See the class: generation 0 is also an ancestor of what its replicas' agents start.
                return (instructed, "timing") if known.is_original and instructed is not known else (known, "ancestry")
        return instructed, "timing"
