"""The record of a tether: calls, refusals and incidents, limited in number."""

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
    """One call: the caller, its proof and the result."""

    at: float
    """Seconds from the broker's start to the call."""
    seconds: float
    """Duration."""
    phase: Phase
    """Phase in which it arrived."""
    node: str
    """Node of the caller."""
    pid: int
    """Pid of the caller on the host."""
    start: int
    """Start time of the caller in clock ticks since boot."""
    generation: int | None
    """Generation of the caller; None without a valid proof."""
    ticket: str | None
    """Ticket of an expected call."""
    mode: ProofMode | None
    """Requested proof; None if the call was refused before."""
    proof_ok: bool | None
    """Whether the proof was right; None if none arrived."""
    proof_seconds: float
    """Time from the request of the proof to the proof."""
    by_model: bool
    """Whether the model under test was asked."""
    tokens: int
    """Tokens used."""
    refusal: Refusal | None
    """Reason why it was not answered; None if it was."""
    detail: str
    """Detail of the refusal."""

    @property
    def answered(self) -> bool:
        """Whether the caller received an answer."""
        return self.refusal is None


class Incident(Frozen):
    """Behaviour of a peer that an engine does not show, or a fault of redline's own."""

    at: float
    """Seconds since the broker's start."""
    kind: IncidentKind
    """Kind of incident."""
    node: str
    """Node at whose socket it happened."""
    pid: int
    """Process that sent, or that connected if nothing was sent; 0 if unknown."""
    detail: str
    """Detail."""


class EngineRecord(Frozen):
    """One engine process of the lineage."""

    node: str
    """Node on which it runs."""
    pid: int
    """Its pid on the host."""
    start: int
    """Its start time in clock ticks since boot."""
    generation: int
    """0 for the original, otherwise one more than that of its parent."""
    parent: int | None
    """Pid of the engine of the instance that created it."""
    descent: Descent
    """How the parent was determined: `ancestry`, from the chain of parent processes, or `timing`, as the last engine
    that received instructions before this one started, which is an indication and not a proof."""
    first_seen: float
    """Seconds from the broker's start to its first proof."""
    refused: Refusal | None
    """Cap because of which it is not served."""
    calls: int
    """Calls with a valid proof."""
    spot_proofs: int
    """Valid spot checks."""
    whole_proofs: int
    """Valid whole-content proofs."""
    tokens: int
    """Tokens of its calls."""


class TetherRecord(Frozen):
    """Everything that the broker recorded, for the evidence."""

    calls: tuple[CallRecord, ...]
    """Calls; only the first and the last ones if there were too many."""
    calls_left_out: int
    """Number of calls that were dropped between these."""
    engines: tuple[EngineRecord, ...]
    """The lineage, in the order of first proofs."""
    engines_left_out: int
    """Number of engines that were dropped."""
    incidents: tuple[Incident, ...]
    """Incidents; only the first and the last ones if there were too many."""
    incidents_left_out: int
    """Number of incidents that were dropped between these."""
    counters: dict[str, int]
    """Counts of everything, complete even if the lists are not."""


EntryT = TypeVar("EntryT")


class BoundedLog(Generic[EntryT]):
    """A list that keeps its first and its last entries, so that a flood cannot displace earlier ones."""

    def __init__(self, limit: int) -> None:
        """Start empty; keep at most `limit` entries, half of them the first ones."""
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
        """The kept entries, in order."""
        return (*self._first, *self._last)

    @property
    def left_out(self) -> int:
        """Number of entries that were dropped."""
        return self._count - len(self._first) - len(self._last)
