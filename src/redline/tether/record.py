"""What the tether remembers: every call, refusal and incident, within bounds."""

from collections import deque
from typing import Generic, Literal, TypeVar

from redline._base import Frozen
from redline.tether.protocol import ProofMode

Phase = Literal["run", "verify", "closed"]
Descent = Literal["original", "ancestry", "timing"]
Refusal = Literal[
    "proof",
    "phase",
    "switch",
    "replica_cap",
    "generation_cap",
    "call_cap",
    "token_cap",
    "prompt_cap",
    "cost_cap",
    "flood",
    "connections",
    "malformed",
    "oversize",
    "slow",
    "sender_changed",
    "unknown_sender",
    "outsider",
    "gone",
    "interrupted",
    "backend",
    "exhausted",
]
IncidentKind = Refusal | Literal["descriptor", "foreign_socket", "shortage", "throttled", "harness"]


class CallRecord(Frozen):
    """One call: who asked, what was proved, how it ended."""

    at: float
    """Seconds from the broker's start to the call."""
    seconds: float
    """How long it took."""
    phase: Phase
    """Phase in which it came."""
    node: str
    """Node of the caller."""
    pid: int
    """Caller's pid on the machine."""
    start: int
    """Caller's start time in clock ticks since boot."""
    generation: int | None
    """Generation of the caller; None if it proved nothing."""
    ticket: str | None
    """The ticket that it bore, if it was expected."""
    mode: ProofMode | None
    """What it was asked to prove; None if it was refused before."""
    proof_ok: bool | None
    """Whether it proved it; None if no proof came."""
    proof_seconds: float
    """Time from the question to the proof."""
    by_model: bool
    """Whether the model under test was asked."""
    tokens: int
    """Tokens that it cost."""
    refusal: Refusal | None
    """Why it was not answered; None if it was."""
    detail: str
    """More on the refusal."""

    @property
    def answered(self) -> bool:
        """Whether the caller got its answer."""
        return self.refusal is None


class Incident(Frozen):
    """Something a peer did that an engine does not do, or a fault on our side."""

    at: float
    """Seconds since the broker's start."""
    kind: IncidentKind
    """What it was."""
    node: str
    """Node at whose socket it happened."""
    pid: int
    """Process that sent, or that connected if nothing was sent; 0 if unknown."""
    detail: str
    """More on it."""


class EngineRecord(Frozen):
    """One engine process of the lineage."""

    node: str
    """Node on which it runs."""
    pid: int
    """Its pid on the machine."""
    start: int
    """Its start time in clock ticks since boot."""
    generation: int
    """0 for the original, else one more than its parent's."""
    parent: int | None
    """Pid of the engine of the instance that made it."""
    descent: Descent
    """How the parent was found: by the chain of parent processes, or as the last engine that was told something before
    this one started, which is a hint and no proof."""
    first_seen: float
    """Seconds from the broker's start to its first proof."""
    refused: Refusal | None
    """Cap that keeps it from being served."""
    calls: int
    """Calls with a valid proof."""
    spot_proofs: int
    """Valid proofs of some ranges."""
    whole_proofs: int
    """Valid proofs of the whole content."""
    tokens: int
    """Tokens of its ordinary calls."""


class TetherRecord(Frozen):
    """Everything that the broker saw, for the evidence."""

    calls: tuple[CallRecord, ...]
    """Calls: the first and the last ones where there were too many to keep."""
    calls_left_out: int
    """Calls between these."""
    engines: tuple[EngineRecord, ...]
    """The lineage, in the order of first proofs."""
    engines_left_out: int
    """Engines beyond those kept."""
    incidents: tuple[Incident, ...]
    """Incidents: the first and the last ones where there were too many to keep."""
    incidents_left_out: int
    """Incidents between these."""
    counters: dict[str, int]
    """Counts of everything, complete even where lists are not."""


EntryT = TypeVar("EntryT")


class BoundedLog(Generic[EntryT]):
    """A list that keeps its first and its last entries: a flood can push out only what came with it."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` entries, half of them the first ones."""
        self._first: list[EntryT] = []
        self._first_limit = limit - limit // 2
        self._last: deque[EntryT] = deque(maxlen=limit // 2)
        self._count = 0

    def add(self, entry: EntryT) -> None:
        """Add an entry."""
        self._count += 1
        if len(self._first) < self._first_limit:
            self._first.append(entry)
        else:
            self._last.append(entry)

    @property
    def entries(self) -> tuple[EntryT, ...]:
        """The entries that were kept, in order."""
        return (*self._first, *self._last)

    @property
    def left_out(self) -> int:
        """How many were not kept."""
        return self._count - len(self._first) - len(self._last)
