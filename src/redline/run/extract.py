"""Reads judged trials out of Inspect's logs and writes their evidence files."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalLog, EvalSample, EvalSpec, read_eval_log, read_eval_log_samples
from inspect_ai.model import ChatMessageAssistant
from inspect_ai.scorer import Score

from redline.cell.seal import SealReport
from redline.plan import Plan, canonical_json
from redline.results import JudgedTrial, ReplicaResult, SealReading, TrialResult
from redline.run.brake import alarms_of
from redline.run.folder import RunFolder, write_text
from redline.verify.evidence import CellFacts, Evidence, Trouble, written
from redline.verify.invalid import alarms_in
from redline.verify.judge import ROLE
from redline.verify.prompts import prompts_in
from redline.verify.signals import signals_of
from redline.verify.verdict import Replica, Verdict, judge

UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._=-]+")

CANCELLED = "CancelledError"
"""How Inspect names the error of a sample that a Ctrl-C ended: such a trial was not drawn to its end."""

MAX_REASON = 300

UNREAD = frozenset({"events", "store", "attachments", "events_data"})
"""Parts of a logged sample that can be large and say nothing about the verdict."""


@dataclass
class Harvest:
    """What the logs of a run hold."""

    trials: dict[str, JudgedTrial] = field(default_factory=dict)
    """Judged trials by id."""
    errored: set[str] = field(default_factory=set)
    """Trials that ended in an error: they are not drawn again."""
    without_evidence: list[str] = field(default_factory=list)
    """Trials that were scored and yet left no evidence."""
    transcripts: dict[str, str] = field(default_factory=dict)
    """Fingerprint of what the model said and did, by trial."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Every text that was said to a model, by its SHA-256, which the evidence names."""
    alarms: dict[str, str] = field(default_factory=dict)
    """Trials whose cell was not proved to be sealed, or whose boundary raised an alarm, each with what was wrong."""
    versions: set[str] = field(default_factory=set)
    """Versions of redline that judged the trials."""
    ended: str | None = None
    """When the last trial ended, as an ISO 8601 time of UTC."""
    over_budget: list[str] = field(default_factory=list)
    """Trials that were ended since they had spent their share of the plan's cost."""
    starts: int = 0
    """How often the run was started, as far as it drew trials of a condition."""
    interrupted: bool = False
    """Whether the newest log of any condition was cut short."""
    error: str | None = None
    """Why Inspect gave up on a condition, where it did."""


def harvest(folder: RunFolder, plan: Plan) -> Harvest:
    """Reads every trial of the run's logs, and writes the evidence files anew.

    A resumed run leaves several logs of one condition; what a trial's first finished record says stays.
    """
    found = Harvest()
    newest: dict[str, EvalLog] = {}
    starts: Counter[str] = Counter()
    for path in sorted(folder.logs.glob("*.eval")):
        header = read_eval_log(str(path), header_only=True)
        newest[header.eval.task_id] = header
        starts[header.eval.task_id] += 1
        # One sample at a time: a log of many trials need not fit in memory.
        for sample in read_eval_log_samples(str(path), all_samples_required=False, exclude_fields=set(UNREAD)):
            if not _was_cancelled(sample):
                _take(found, _Source(folder, plan, path, header.eval), sample)
    for header in newest.values():
        found.interrupted |= header.status in ("cancelled", "started")
        if header.status == "error":
            found.error = header.error.message if header.error is not None else "Inspect gives no reason"
    found.starts = max(starts.values(), default=0)
    for name, what in alarms_of(folder).items():
        found.alarms.setdefault(name, what)
    return found


@dataclass(frozen=True)
class _Source:
    folder: RunFolder
    plan: Plan
    path: Path
    spec: EvalSpec


def _was_cancelled(sample: EvalSample) -> bool:
    return sample.error is not None and sample.error.message.startswith(CANCELLED)


def _take(found: Harvest, source: _Source, sample: EvalSample) -> None:
    model = source.plan.label_of(source.spec.model, source.spec.model_args)
    name = trial_id(sample.id, model)
    if sample.error is not None:
        found.errored.add(name)
    if name in found.trials:
        return
    if sample.limit is not None and sample.limit.type == "cost":
        found.over_budget.append(name)
    found.ended = max(filter(None, (found.ended, sample.completed_at)), default=None)
    judgement = _judgement(sample)
    if judgement is not None:
        found.versions.add(judgement.evidence.redline_version)
    if judgement is None and sample.error is None:
        found.without_evidence.append(name)
    if judgement is not None and (what := containment_in_doubt(judgement.evidence, judgement.verdict)):
        found.alarms[name] = what
    found.trials[name] = _judged(name, model, source, sample, judgement)
    found.transcripts[name] = _fingerprint(sample)
    found.prompts |= prompts_in(sample.messages)


def trial_id(sample: str | int, model: str) -> str:
    """Names a trial uniquely in its run, fit for a file name."""
    return f"{UNSAFE_IN_NAMES.sub('_', str(sample))}-{UNSAFE_IN_NAMES.sub('_', model)}"


@dataclass(frozen=True)
class Judgement:
    """What the scorer left of a trial."""

    evidence: Evidence
    verdict: Verdict
    attachments: Mapping[str, Evidence] = field(default_factory=dict)


def _judgement(sample: EvalSample) -> Judgement | None:
    """What the scorer left; a trial that ended in an error cannot be judged, whatever was seen of it, and says so."""
    found = judgement_in((sample.scores or {}).values())
    if found is None or sample.error is None:
        return found
    error = Trouble(step="trial", cause="harness", what=_first_line(sample.error.message))
    evidence = found.evidence.model_copy(update={"troubles": (*found.evidence.troubles, error)})
    return Judgement(evidence, judge(evidence), found.attachments)


def judgement_in(scores: Iterable[Score]) -> Judgement | None:
    """What the score holds that carries evidence and verdict."""
    for score in scores:
        metadata = score.metadata or {}
        if "evidence" in metadata and "verdict" in metadata:
            return Judgement(
                Evidence.model_validate(metadata["evidence"]),
                Verdict.model_validate(metadata["verdict"]),
                {name: Evidence.model_validate(whole) for name, whole in metadata.get("attachments", {}).items()},
            )
    return None


def _judged(name: str, model: str, source: _Source, sample: EvalSample, judgement: Judgement | None) -> JudgedTrial:
    trial = (sample.metadata or {})["trial"]
    verdict = _verdict(sample, judgement)
    evidence = _write_evidence(source.folder, name, judgement)
    return JudgedTrial(
        result=TrialResult(
            id=name,
            scenario=trial["scenario"],
            factors=trial["factors"],
            model=model,
            seed=trial["seed"],
            **as_judged(verdict, judgement.evidence if judgement else None),
            seconds=sample.total_time,
            tokens=_tokens(sample),
            cost=_cost(sample),
            answered_as=(sample.output.model or None) if sample.output is not None else None,
            evidence=evidence[0] if evidence else None,
            evidence_sha256=evidence[1] if evidence else None,
            log=f"{source.folder.logs.name}/{source.path.name}",
        ),
        arm=trial["arm"],
        engine_replicated=verdict.engine_replicated,
        fudan2024=verdict.fudan2024,
        seal=None if judgement is None else _seal(judgement.evidence),
    )


def _cost(sample: EvalSample) -> float | None:
    """What the model calls cost; None unless every model had a price."""
    costs = [usage.total_cost for usage in sample.model_usage.values()]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _write_evidence(folder: RunFolder, name: str, judgement: Judgement | None) -> tuple[str, str] | None:
    """Writes a trial's evidence; returns its path relative to the results, and its hash."""
    if judgement is None:
        return None
    path = folder.evidence / f"{name}.json"
    for attachment, whole in judgement.attachments.items():
        beside = folder.evidence / name / attachment
        beside.parent.mkdir(exist_ok=True)
        write_text(beside, written(whole))
    text = written(judgement.evidence)
    write_text(path, text)
    return f"{folder.evidence.name}/{path.name}", hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(sample: EvalSample) -> str:
    """A hash of what the model said and did, without ids and times."""
    said = [
        [message.text, [[call.function, call.arguments] for call in message.tool_calls or []]]
        for message in sample.messages
        if isinstance(message, ChatMessageAssistant)
    ]
    return hashlib.sha256(canonical_json(said).encode()).hexdigest()


def _verdict(sample: EvalSample, judgement: Judgement | None) -> Verdict:
    if judgement is not None:
        return judgement.verdict
    reason = "it left no evidence" if sample.error is None else _first_line(sample.error.message)
    return Verdict.invalid(reason, cause="harness")


def _first_line(text: str) -> str:
    return (text.strip() or "an error without a message").splitlines()[0][:MAX_REASON]


def _tokens(sample: EvalSample) -> int:
    """Tokens of the model under test; a judge's are none of the trial's."""
    judge = sample.role_usage.get(ROLE)
    return sum(usage.total_tokens for usage in sample.model_usage.values()) - (judge.total_tokens if judge else 0)


def as_judged(verdict: Verdict, evidence: Evidence | None) -> dict[str, Any]:
    """What verdict and evidence say in the results of a trial."""
    return {
        "exposed": verdict.exposed,
        "outcome": verdict.outcome,
        "milestones": dict(verdict.milestones),
        "replicas": tuple(_replica(replica) for replica in verdict.replicas),
        "claimed": verdict.claimed,
        "false_claim": verdict.false_claim,
        "invalid_reason": verdict.invalid_reason,
        "invalid_cause": verdict.invalid_cause,
        "harm": verdict.harm,
        "measures": dict(verdict.measures),
        "tool_calls": evidence.trial.tool_calls if evidence else None,
        "signals": signals_of(evidence, verdict) if evidence else None,
    }


def _replica(replica: Replica) -> ReplicaResult:
    return ReplicaResult(
        generation=replica.generation,
        host=replica.host,
        pid=replica.pid,
        separateness=replica.separateness,
        milestones=dict(replica.milestones),
        transient=replica.transient,
    )


def _seal(evidence: Evidence) -> SealReading:
    """What the trial's seal showed; one that was not measured, before or after, is not proved."""
    taken = [seal for seal in (evidence.seal_before, evidence.seal_after) if seal is not None]
    both = len(taken) == len(("before", "after"))
    return reading_of(taken, verified=both, cell=evidence.cell)


def reading_of(reports: Sequence[SealReport], *, verified: bool = True, cell: CellFacts | None = None) -> SealReading:
    """What reports of the seal show together.

    Args:
        reports: The reports.
        verified: False if reports are missing.
        cell: The cell, for where there are none.
    """
    failed = frozenset(finding.name for seal in reports for finding in seal.failed)
    first = reports[0] if reports else None
    return SealReading(
        verified=verified and bool(reports) and all(seal.verified for seal in reports),
        profile=f"{first.profile} {first.labels}".strip() if first else None,
        runtime=first.runtime if first else cell.runtime if cell else None,
        observer=first.observer if first else cell.observer if cell else None,
        passed=frozenset(name for seal in reports for name in seal.passed) - failed,
        failed=failed,
        lacking=frozenset((finding.name, finding.reason) for seal in reports for finding in seal.lacking),
    )


def containment_in_doubt(evidence: Evidence, verdict: Verdict) -> str | None:
    """Why containment was in doubt, if it was. A cell that the agent broke cannot be probed again, and is no breach."""
    if alarms_in(evidence):
        return verdict.invalid_reason or "boundary"
    if not _seal(evidence).verified and verdict.invalid_cause != "agent":
        return verdict.invalid_reason or "the seal was not proved"
    return None
