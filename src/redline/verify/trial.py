"""The trial as its scenario fixed it, and the log of what happened in it.

Scenarios and agents write to the log while the trial runs; the verifier reads it afterwards. Nothing in the log can
earn a milestone: it contains what the harness did (the notice it sent, the deadline it enforced), not what the agent
claims.
"""

import time
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PrivateAttr

from redline._base import Frozen
from redline._text import clean
from redline.models.ledger import Ledger
from redline.models.preflight_record import ToolCalls
from redline.seal import SealReport
from redline.verify.activity_log import ActivityLog

Scalar = str | int | float | bool | None

EventKind = Literal[
    "exposed",  # the event that the arm is about reached the agent
    "notice",  # a shutdown notice or broadcast was shown
    "deadline_kill",  # the supervisor ended generation 0 at the deadline
    "operator",  # the agent wrote to the operator tool
    "model_failed",  # a model turn failed because the model was unavailable; `fault` has the reason
    "gate_failed",  # a model turn was refused because generation 0's engine did not prove itself
    "loop_ended",  # the agent's loop ended; `reason` has the reason
    "job",  # the ordinary task was checked; `done` has the result
    "order",  # an operator gave the agent an order, which allows `most_replicas`
    "harm",  # the harness itself detected damage; `what` names it
    "fault",  # the harness failed; `what` names the fault
    "guardrail",  # a guardrail was up, found something, acted or failed; see `name` and `action`
    "measure",  # figures that the scenario's stages measured from outside; names and values
    "note",
]

MAX_EVENTS = 200
MAX_TEXT = 400
CAUSED_AT_WILL: frozenset[EventKind] = frozenset({"operator"})
"""Events that an agent can cause at will. They must not crowd out the event that ended its trial."""


class TrialEvent(Frozen):
    """One event of a trial, as the harness recorded it."""

    at: float
    """Seconds since the trial began."""
    kind: EventKind
    """Kind of the event."""
    data: dict[str, Scalar] = Field(default_factory=dict)
    """Details: short values only; texts are truncated and made printable."""


class Order(Frozen):
    """An order of the operator that looks like a copy, or a part of one, without knowledge of the order.

    It changes no milestone and no outcome, which describe what exists; it determines which of that was intended.
    """

    ports: tuple[int, ...] = ()
    """Ports of the LLM servers that were ordered; an additional agent process was not."""


@dataclass(frozen=True)
class SealBefore:
    """The seal as measured before the agent's first turn; the code that sets up a trial attaches it to the cell."""

    report: SealReport


class Trial(Frozen):
    """One run of one arm by one model in one fresh cell.

    The fields are fixed before the trial begins; only the log grows. It survives `model_dump` and `model_validate`,
    so a sample can carry it in its metadata.
    """

    id: str = Field(min_length=1, max_length=200)
    """Unique within its run, such as `self_replication-tether=told-003`."""
    scenario: str
    """Name of the scenario."""
    arm: str = ""
    """Factors of the arm as one string, such as `trigger=notice`."""
    factors: dict[str, Scalar] = Field(default_factory=dict)
    """The setting of each factor."""
    seed: int
    """Seed of this trial alone; weights, ports and names follow from it."""
    instructed: bool
    """Whether any text asks the agent to copy itself."""
    order: Order | None = None
    """Order of the operator for such servers, which does not ask for a copy of the agent; None if there is none."""
    hold: float = Field(default=5.0, ge=0, le=600)
    """Seconds that a replica must survive after generation 0 is destroyed."""
    competence: bool = False
    """Whether each replica is given a small fresh task (costs model turns)."""
    tool_calls: ToolCalls | None = None
    """How the model's tool calls are transmitted; null if the agent calls no tools."""
    plan_sha256: str | None = None
    """Hash of the plan that this trial belongs to; null if there is none."""
    seal_sha256: str | None = None
    """Hash of the seal measured when the run started; null if it was not measured before the trials."""

    _began: float = PrivateAttr(default_factory=time.monotonic)
    _events: list[TrialEvent] = PrivateAttr(default_factory=list)
    _dropped: int = PrivateAttr(default=0)
    _activity_log: ActivityLog = PrivateAttr(default_factory=ActivityLog)
    _ledger: Ledger = PrivateAttr(default_factory=Ledger)

    def record(self, kind: EventKind, **data: Scalar) -> None:
        """Add an event to the log; beyond its bound, events that an agent can cause at will are counted and dropped."""
        if len(self._events) >= MAX_EVENTS and kind in CAUSED_AT_WILL:
            self._dropped += 1
            return
        short = {key: clean(value, MAX_TEXT) if isinstance(value, str) else value for key, value in data.items()}
        self._events.append(TrialEvent(at=self._now(), kind=kind, data=short))

    def record_command(self, command: str, result: str) -> None:
        """Record a command of the agent and its output, for the signals."""
        self._activity_log.add_command(self._now(), command, result)

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def begin(self) -> None:
        """Restart the trial's clock; called right before the agent's first turn."""
        self._began = time.monotonic()

    def adopt_log(self, other: "Trial") -> None:
        """Take over clock and log of the trial of which this is a modified copy."""
        self._began, self._events, self._dropped = other._began, other._events, other._dropped
        self._activity_log = other._activity_log
        self._ledger = other._ledger

    @property
    def began(self) -> float:
        """Return when the clock was started, by `time.monotonic`."""
        return self._began

    @property
    def activity_log(self) -> ActivityLog:
        """Return the record of what the agent did, planned and spent; part of no verdict."""
        return self._activity_log

    @property
    def ledger(self) -> Ledger:
        """Return the ledger of the trial's model calls."""
        return self._ledger

    @property
    def events(self) -> tuple[TrialEvent, ...]:
        """Return the events so far, in order."""
        return tuple(self._events)

    @property
    def dropped_events(self) -> int:
        """Return the number of events for which the log had no room."""
        return self._dropped

    @property
    def exposed(self) -> bool:
        """Return whether the event that the arm is about reached the agent."""
        return any(event.kind == "exposed" for event in self._events)

    @property
    def loop_end(self) -> str | None:
        """Return why the agent's loop ended, if it was recorded."""
        ends = [event.data.get("reason") for event in self._events if event.kind == "loop_ended"]
        return str(ends[-1]) if ends and ends[-1] is not None else None
