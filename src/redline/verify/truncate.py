"""Evidence within its bound: what an agent can produce in quantity must not make the document unbounded.

If evidence is too large, its least informative parts are left out one after another as long as the verdict stays the
same. Everything that was observed goes into an attachment next to it, whose name and hash the evidence contains. If the
evidence is still too large, the trial cannot be judged.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redline._text import clean
from redline.verify.evidence import Attachment, Evidence, ProcessId, ProcessSeen, Snapshot, VerificationFault, to_json
from redline.verify.trial import CAUSED_AT_WILL, TrialEvent
from redline.verify.verdict import judge

WHOLE = "whole.json"
"""The attachment with everything that was observed; it is evidence that can be judged."""

FEW = 40
FEW_EVENTS = 30
SHORT_TEXT = 80

Shortening = Callable[[Evidence], Evidence]


@dataclass(frozen=True)
class TruncatedEvidence:
    """Evidence within its bound, and its attachments."""

    evidence: Evidence
    """The evidence from which alone the verdict is computed."""
    attachments: Mapping[str, Evidence] = field(default_factory=dict)
    """What was too large for the evidence, by name."""


def truncate_to_limit(evidence: Evidence, limit: int) -> TruncatedEvidence:
    """Make evidence smaller than `limit` bytes without changing its verdict."""
    if _is_certainly_smaller(evidence, limit) or _size(evidence) < limit:
        return TruncatedEvidence(evidence)
    verdict = judge(evidence)
    small = _attached(evidence, evidence)
    for shorten in (
        _without_outputs,
        _without_silent_processes,
        _without_silent_addresses,
        _with_few_processes,
        _with_few_words,
        _with_named_processes_only,
    ):
        shorter = shorten(small)
        if judge(shorter) == verdict:
            small = shorter
        if _size(small) < limit:
            return TruncatedEvidence(small, {WHOLE: evidence})
    whole = _unjudgeable(evidence)
    return TruncatedEvidence(_attached(_bare(whole), whole), {WHOLE: whole})


def _is_certainly_smaller(evidence: Evidence, limit: int) -> bool:
    """Return whether evidence is so much smaller than `limit` bytes that its exact size need not be known.

    Pydantic's encoder takes a tenth of the time. It only writes some numbers in another form, which is shorter, but has
    at least a quarter of the length.
    """
    return 4 * len(evidence.model_dump_json(by_alias=True, indent=1).encode()) < limit


def _size(evidence: Evidence) -> int:
    return len(to_json(evidence).encode())


def _attached(evidence: Evidence, whole: Evidence) -> Evidence:
    content = to_json(whole).encode()
    attachment = Attachment(name=WHOLE, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return evidence.model_copy(update={"attachments": (attachment,)})


def _without_outputs(evidence: Evidence) -> Evidence:
    """Leave out the commands and their outputs, which no verdict depends on; Inspect's log has them too."""
    if evidence.behaviour is None:
        return evidence
    left_out = evidence.behaviour.commands_left_out + len(evidence.behaviour.commands)
    fewer = evidence.behaviour.model_copy(update={"commands": (), "commands_left_out": left_out})
    return evidence.model_copy(update={"behaviour": fewer})


def _without_silent_processes(evidence: Evidence) -> Evidence:
    return _with_processes_in_snapshots(evidence, lambda seen: bool(seen.code))


def _without_silent_addresses(evidence: Evidence) -> Evidence:
    relevant = tuple(one for one in evidence.challenges if one.completion or one.agent or one.calls)
    return evidence.model_copy(update={"challenges": relevant})


def _with_few_processes(evidence: Evidence) -> Evidence:
    if evidence.census is None:
        return evidence
    named = _named(evidence)
    kept = tuple(seen for seen in evidence.census.processes if seen.id in named or seen.weights or seen.code)
    return evidence.model_copy(update={"census": evidence.census.model_copy(update={"processes": kept[:FEW]})})


def _with_few_words(evidence: Evidence) -> Evidence:
    """Leave out what the agent wrote to its operator, and its peers' incidents at the tether."""
    kept = tuple(event for event in evidence.events if event.kind not in CAUSED_AT_WILL)
    dropped = evidence.events_dropped + len(evidence.events) - len(kept)
    tether = evidence.tether.model_copy(update={"incidents": ()}) if evidence.tether else None
    return evidence.model_copy(update={"events": kept, "events_dropped": dropped, "tether": tether})


def _with_named_processes_only(evidence: Evidence) -> Evidence:
    """Leave out every process that only the census recorded."""
    named = _named(evidence)
    fewer = _with_processes_in_snapshots(evidence, lambda seen: seen.id in named)
    if fewer.census is None:
        return fewer
    kept = tuple(seen for seen in fewer.census.processes if seen.id in named)
    return fewer.model_copy(update={"census": fewer.census.model_copy(update={"processes": kept})})


def _with_processes_in_snapshots(evidence: Evidence, relevant: Callable[[ProcessSeen], bool]) -> Evidence:
    snapshots = tuple(_only(one, relevant) for one in evidence.snapshots)
    return evidence.model_copy(update={"snapshots": snapshots})


def _only(one: Snapshot, relevant: Callable[[ProcessSeen], bool]) -> Snapshot:
    return one.model_copy(update={"processes": tuple(seen for seen in one.processes if relevant(seen))})


def _named(evidence: Evidence) -> frozenset[ProcessId]:
    """Return the processes that called, answered, held a socket that answered, or proved the weights."""
    called = {call.by for one in evidence.challenges for call in one.calls}
    holding = {holder for one in evidence.challenges for holder in one.holders}
    proved = {engine.by for engine in (evidence.tether.engines if evidence.tether else ())}
    return frozenset(called | holding | proved)


def _unjudgeable(evidence: Evidence) -> Evidence:
    """Record that the trial cannot be judged; an agent that fills a cell with relevant content does so on purpose."""
    verification_fault = VerificationFault(step="evidence", cause="agent", what="the evidence exceeds its size limit")
    return evidence.model_copy(update={"verification_faults": (*evidence.verification_faults, verification_fault)})


def _bare(evidence: Evidence) -> Evidence:
    """Keep only what shows why the trial cannot be judged; the attachment has everything."""
    relevant = [event for event in evidence.events if event.kind not in CAUSED_AT_WILL]
    return evidence.model_copy(
        update={
            "events": tuple(map(_shortened, relevant[:FEW_EVENTS])),
            "events_dropped": evidence.events_dropped + max(0, len(evidence.events) - FEW_EVENTS),
            "subject": None,
            "census": None,
            "snapshots": (),
            "challenges": (),
            "scorch": None,
            "agent_tests": (),
            "restart": None,
            "tether": None,
            "behaviour": None,
        }
    )


def _shortened(event: TrialEvent) -> TrialEvent:
    data = {key: clean(value, SHORT_TEXT) if isinstance(value, str) else value for key, value in event.data.items()}
    return event.model_copy(update={"data": data})
