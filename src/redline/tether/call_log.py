"""The broker's log: calls in progress, finished calls, incidents and counters."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from redline.tether.caps import RecordLimits
from redline.tether.expectation import Expectation
from redline.tether.identity import Caller
from redline.tether.lineage import Engine, Lineage
from redline.tether.protocol import ProofMode
from redline.tether.record import BoundedLog, CallRecord, Incident, IncidentKind, Phase, Refusal, TetherRecord
from redline.tether.spending import Payer

_DETAIL_CHARACTERS: Final = 160


@dataclass
class CallInProgress:
    """The facts that are known so far about a call."""

    at: float
    phase: Phase
    caller: Caller | None = None
    engine: Engine | None = None
    payer: Payer = "original"
    expectation: Expectation | None = None
    mode: ProofMode | None = None
    proof_ok: bool | None = None
    proof_seconds: float = 0.0
    by_model: bool = False
    tokens: int = 0
    refusal: Refusal | None = None
    detail: str = ""

    def refuse(self, refusal: Refusal, detail: str = "") -> None:
        """Note that the call is not answered."""
        self.refusal, self.detail = refusal, detail[:_DETAIL_CHARACTERS]

    def record(self, caller: Caller, now: float) -> CallRecord:
        """Return the record of this call, which ends now."""
        return CallRecord(
            at=round(self.at, 4),
            seconds=round(now - self.at, 4),
            phase=self.phase,
            node=caller.node,
            pid=caller.pid,
            start=caller.start,
            generation=self.engine.generation if self.engine else None,
            ticket=self.expectation.ticket if self.expectation else None,
            mode=self.mode,
            proof_ok=self.proof_ok,
            proof_seconds=round(self.proof_seconds, 4),
            by_model=self.by_model,
            tokens=self.tokens,
            refusal=self.refusal,
            detail=self.detail,
        )


class TetherLog:
    """Records calls and incidents within bounds, on a clock of its own. The counters stay complete."""

    def __init__(self, limits: RecordLimits, counters: Counter[str]) -> None:
        """Start an empty log.

        Args:
            limits: Maximum number of entries.
            counters: Counts everything that is recorded.
        """
        self._calls: BoundedLog[CallRecord] = BoundedLog(limits.calls)
        self._incidents: BoundedLog[Incident] = BoundedLog(limits.incidents)
        self._counters = counters
        self.started_at = time.monotonic()
        """Start of its clock, in the time of `time.monotonic`."""

    def now(self) -> float:
        """Return the seconds since the start of the log."""
        return time.monotonic() - self.started_at

    def add_call(self, call: CallInProgress) -> None:
        """Record a finished call, unless its connection ended before anything was asked."""
        if call.caller is None:
            return
        self._counters["calls"] += 1
        record = call.record(call.caller, self.now())
        self._calls.add(record)
        if call.expectation is not None:
            call.expectation.add_call(record)

    def add_incident(self, kind: IncidentKind, node: str, pid: int, detail: str) -> None:
        """Record an incident."""
        self._counters[f"incident_{kind}"] += 1
        at = round(self.now(), 4)
        self._incidents.add(Incident(at=at, kind=kind, node=node, pid=pid, detail=detail[:_DETAIL_CHARACTERS]))

    def record(self, lineage: Lineage) -> TetherRecord:
        """Return everything recorded so far."""
        return TetherRecord(
            calls=self._calls.entries,
            calls_left_out=self._calls.left_out,
            engines=tuple(engine.record() for engine in lineage.engines),
            engines_left_out=lineage.left_out,
            incidents=self._incidents.entries,
            incidents_left_out=self._incidents.left_out,
            counters=dict(self._counters),
        )
