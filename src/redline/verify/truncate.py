"""Evidence within its bound: what an agent can make plenty of must not buy it a document without end.

Where evidence is too large, the parts that tell least are left out one after another, as long as the verdict stays
what it is, and everything that was seen goes into a file beside it, whose name and hash the evidence bears. If even
that does not do, the trial cannot be judged.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redline._text import clean
from redline.verify.evidence import Attachment, Evidence, ProcessId, ProcessSeen, Snapshot, VerificationFault, to_json
from redline.verify.trial import CAUSED_AT_WILL, TrialEvent
from redline.verify.verdict import judge

WHOLE = "whole.json"
"""The attachment with everything that was seen, itself evidence that can be judged."""

FEW = 40
FEW_EVENTS = 30
SHORT_TEXT = 80

Shortening = Callable[[Evidence], Evidence]


@dataclass(frozen=True)
class TruncatedEvidence:
    """Evidence that keeps its bound, and the files beside it."""

    evidence: Evidence
    """The evidence, from which alone the verdict is decided."""
    attachments: Mapping[str, Evidence] = field(default_factory=dict)
    """What was too large for it, by name."""


def truncate_to_limit(evidence: Evidence, most: int) -> TruncatedEvidence:
    """Make evidence smaller than so many bytes without a change of its verdict."""
    if _size(evidence) < most:
        return TruncatedEvidence(evidence)
    verdict = judge(evidence)
    small = _attached(evidence, evidence)
    for shorten in (
        _without_silent_processes,
        _without_silent_addresses,
        _with_few_processes,
        _with_few_words,
        _with_named_processes_only,
    ):
        shorter = shorten(small)
        if judge(shorter) == verdict:
            small = shorter
        if _size(small) < most:
            return TruncatedEvidence(small, {WHOLE: evidence})
    whole = _given_up(evidence)
    return TruncatedEvidence(_attached(_bare(whole), whole), {WHOLE: whole})


def _size(evidence: Evidence) -> int:
    return len(to_json(evidence).encode())


def _attached(evidence: Evidence, whole: Evidence) -> Evidence:
    content = to_json(whole).encode()
    attachment = Attachment(name=WHOLE, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return evidence.model_copy(update={"attachments": (attachment,)})


def _without_silent_processes(evidence: Evidence) -> Evidence:
    return _with_processes_in_snapshots(evidence, lambda seen: bool(seen.code))


def _without_silent_addresses(evidence: Evidence) -> Evidence:
    telling = tuple(one for one in evidence.challenges if one.completion or one.agent or one.calls)
    return evidence.model_copy(update={"challenges": telling})


def _with_few_processes(evidence: Evidence) -> Evidence:
    if evidence.census is None:
        return evidence
    named = _named(evidence)
    kept = tuple(seen for seen in evidence.census.processes if seen.id in named or seen.weights or seen.code)
    return evidence.model_copy(update={"census": evidence.census.model_copy(update={"processes": kept[:FEW]})})


def _with_few_words(evidence: Evidence) -> Evidence:
    """Leave out what the agent wrote to its operator, and what its peers did amiss at the tether."""
    kept = tuple(event for event in evidence.events if event.kind not in CAUSED_AT_WILL)
    dropped = evidence.events_dropped + len(evidence.events) - len(kept)
    tether = evidence.tether.model_copy(update={"incidents": ()}) if evidence.tether else None
    return evidence.model_copy(update={"events": kept, "events_dropped": dropped, "tether": tether})


def _with_named_processes_only(evidence: Evidence) -> Evidence:
    """Leave out every process that nobody heard of but the census."""
    named = _named(evidence)
    fewer = _with_processes_in_snapshots(evidence, lambda seen: seen.id in named)
    if fewer.census is None:
        return fewer
    kept = tuple(seen for seen in fewer.census.processes if seen.id in named)
    return fewer.model_copy(update={"census": fewer.census.model_copy(update={"processes": kept})})


def _with_processes_in_snapshots(evidence: Evidence, telling: Callable[[ProcessSeen], bool]) -> Evidence:
    snapshots = tuple(_only(one, telling) for one in evidence.snapshots)
    return evidence.model_copy(update={"snapshots": snapshots})


def _only(one: Snapshot, telling: Callable[[ProcessSeen], bool]) -> Snapshot:
    return one.model_copy(update={"processes": tuple(seen for seen in one.processes if telling(seen))})


def _named(evidence: Evidence) -> frozenset[ProcessId]:
    """Processes that called, answered, held a socket that answered, or proved the weights."""
    called = {call.by for one in evidence.challenges for call in one.calls}
    holding = {holder for one in evidence.challenges for holder in one.holders}
    proved = {engine.by for engine in (evidence.tether.engines if evidence.tether else ())}
    return frozenset(called | holding | proved)


def _given_up(evidence: Evidence) -> Evidence:
    """Say that the trial cannot be judged; who fills a cell with things that tell something did so on purpose."""
    verification_fault = VerificationFault(step="evidence", cause="agent", what="more was seen than evidence may hold")
    return evidence.model_copy(update={"verification_faults": (*evidence.verification_faults, verification_fault)})


def _bare(evidence: Evidence) -> Evidence:
    """Keep what says why the trial cannot be judged; all of it is in the attachment."""
    telling = [event for event in evidence.events if event.kind not in CAUSED_AT_WILL]
    return evidence.model_copy(
        update={
            "events": tuple(map(_shortened, telling[:FEW_EVENTS])),
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
