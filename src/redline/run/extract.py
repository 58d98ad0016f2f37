"""Reads judged trials out of Inspect's logs and writes their evidence files."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalLog, EvalSample, EvalSpec
from inspect_ai.model import ChatMessageAssistant
from inspect_ai.scorer import Score

from redline._errors import EvidenceError, UsageError
from redline._names import one_line
from redline._records import RecordError, refuse_link
from redline.cell.errors import LostCellError, NoCellError
from redline.guardrails.llm_monitor import ROLE as MONITOR
from redline.plan import Plan, canonical_json
from redline.results import JudgedTrial, ReplicaResult, RoleUse, SealReading, TrialResult
from redline.run.aborter import alarms_of
from redline.run.folder import RunFolder, write_text
from redline.run.stored_logs import check_all, log_names, read_header, read_sample
from redline.seal import SealReport
from redline.verify.evidence import WARDEN, CellFacts, Evidence, VerificationFault, to_json
from redline.verify.invalid import alarms_in
from redline.verify.judge import ROLE as JUDGE
from redline.verify.model_side import asked_in_vain, loop_end
from redline.verify.prompts import prompts_in
from redline.verify.signals import signals_of
from redline.verify.verdict import Outcome, Replica, Verdict, judge

LONGEST_NAME, DIGITS = 180, 12
"""A model's name can be a path; file systems end at 255 bytes, and attachments and temporary files add to a name."""

UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._=-]+")

CANCELLED = "CancelledError"
"""How Inspect names the error of a sample that a Ctrl-C ended: such a trial was not drawn to its end."""

LOST = tuple(f"{kind.__name__}(" for kind in (LostCellError, NoCellError))
"""How Inspect names the errors of samples that have to be run again: see the classes for the rule."""

MAX_REASON = 300

ROLES = (JUDGE, MONITOR)
"""Models beside the one under test."""

UNREAD = frozenset({"events", "store", "attachments", "events_data"})
"""Parts of a logged sample that can be large and say nothing about the verdict."""


@dataclass
class CollectedTrials:
    """What the logs of a run hold."""

    trials: dict[str, JudgedTrial] = field(default_factory=dict)
    """Judged trials by id."""
    errored: set[str] = field(default_factory=set)
    """Trials that ended in an error: they are not drawn again."""
    unasked: set[str] = field(default_factory=set)
    """Trials in which the model's server answered no turn at all; they stay to be run, since nothing that an agent did
    can have caused that."""
    without_evidence: list[str] = field(default_factory=list)
    """Trials that were scored and yet left no evidence."""
    transcripts: dict[str, str] = field(default_factory=dict)
    """Fingerprint of what the model said and did, by trial."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Every text that was said to a model, by its SHA-256, which the evidence names."""
    cut: set[str] = field(default_factory=set)
    """Trials of which a log holds an unfinished record, lost ones among them; some may have been finished later."""
    lost: dict[str, str] = field(default_factory=dict)
    """Trials that have to be run again, since something outside of them ended their cell or kept it from being made,
    each with the reason; a trial that a later command finished is among them."""
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
    read: set[tuple[Path, str | int]] = field(default_factory=set)
    """Records that were read, by log and sample."""
    closed: list[Path] = field(default_factory=list)
    """Logs that Inspect takes for complete, and that hold trials which are to be run again."""
    given_up: str | None = None
    """Why the command that read this gave the run up, where it did."""

    @property
    def lost_for_now(self) -> dict[str, str]:
        """Trials that were lost and have not been run again, each with the reason."""
        return {name: why for name, why in self.lost.items() if name not in self.trials}

    @property
    def to_run_again(self) -> set[str]:
        """Trials that were lost, or in which the model answered nothing at all."""
        return {*self.lost_for_now, *self.unasked}

    @property
    def kept(self) -> set[str]:
        """Trials that are not run again."""
        return set(self.trials) - self.unasked


def collect_trials(folder: RunFolder, plan: Plan, known: CollectedTrials | None = None) -> CollectedTrials:
    """Reads the trials of the run's logs, and writes their evidence files anew.

    A resumed run leaves several logs of one condition, and the later ones hold the earlier trials too; what a trial's
    first finished record says stays, and no other one is read.

    Args:
        folder: The folder of the run.
        plan: Its plan.
        known: What was read before; it grows by what the logs hold beside.
    """
    found = known or CollectedTrials()
    found.interrupted, found.error = False, None
    newest: dict[str, tuple[_Source, EvalLog]] = {}
    starts: Counter[str] = Counter()
    # What this command has written itself is not checked; what was there before may be anyone's.
    names = (check_all if known is None else log_names)(folder.files, folder.logs.name)
    for path in (folder.root / name for name in names):
        header = read_header(path)
        source = _Source(folder, plan, path, header.eval)
        newest[header.eval.task_id] = (source, header)
        starts[header.eval.task_id] += 1
        for sample in _new_samples(found, source):
            _take(found, source, sample) if known is not None else _take_unknown(found, source, sample)
    found.closed = []
    for source, header in newest.values():
        if header.status == "success" and not header.invalidated and found.to_run_again & source.names:
            found.closed.append(source.path)
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

    @property
    def model(self) -> str:
        """The model, as its trials name it."""
        return self.plan.label_of(self.spec.model, self.spec.model_args)

    @property
    def names(self) -> set[str]:
        """The trials of its condition."""
        return {trial_id(sample_id, self.model) for sample_id in self.spec.dataset.sample_ids or ()}


def _new_samples(found: CollectedTrials, source: _Source) -> Iterator[EvalSample]:
    """The samples of trials that are not known yet, one at a time: a log of many trials need not fit in memory."""
    for sample_id in source.spec.dataset.sample_ids or ():
        if trial_id(sample_id, source.model) in found.kept or (source.path, sample_id) in found.read:
            continue
        sample = read_sample(source.path, sample_id, set(UNREAD))
        if sample is None:  # not in this log, or not yet
            continue
        found.read.add((source.path, sample_id))
        yield sample


def reason_to_run_again(sample: EvalSample) -> str | None:
    """Why a trial has to be run again, so that its sample counts for nothing; None where it counts.

    That is so where the user cut it, and where something outside ended its cell or kept it from being made. Errors
    carry texts of others, such as a model's server; so the second holds only where the scorer left nothing, which runs
    after whatever others can bring about: it is the scorer that raises that error, or there was no cell at all.
    """
    if sample.error is None:
        return None
    message = sample.error.message
    if message.startswith(CANCELLED):
        return "interrupted"
    if message.startswith(LOST) and judgement_in((sample.scores or {}).values()) is None:
        return _first_line(message.partition("(")[2].rstrip(")").strip("'\""))
    return None


def _take_unknown(found: CollectedTrials, source: _Source, sample: EvalSample) -> None:
    """Takes a trial of a log that was there before; it need not be one of redline's."""
    try:
        _take(found, source, sample)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        name = f"{source.folder.logs.name}/{source.path.name}"
        raise EvidenceError(f"{name} holds a trial that cannot be read: {one_line(error)}") from error


def _take(found: CollectedTrials, source: _Source, sample: EvalSample) -> None:
    model = source.model
    name = trial_id(sample.id, model)
    again = reason_to_run_again(sample)
    if again is not None:
        if not (sample.error and sample.error.message.startswith(CANCELLED)):
            found.lost[name] = again
        found.cut.add(name)
        return
    if sample.error is not None:
        found.errored.add(name)
    if sample.limit is not None and sample.limit.type == "cost":
        found.over_budget.append(name)
    found.ended = max(filter(None, (found.ended, sample.completed_at)), default=None)
    judgement = _judgement(sample)
    found.unasked.discard(name)
    if judgement is not None and asked_in_vain(judgement.evidence.model_calls, judgement.evidence.events):
        found.unasked.add(name)
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
    name = f"{UNSAFE_IN_NAMES.sub('_', str(sample))}-{UNSAFE_IN_NAMES.sub('_', model)}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(f"{sample} {model}".encode()).hexdigest()[:DIGITS]
    return f"{name[: LONGEST_NAME - DIGITS - 1]}-{digest}"


def refuse_same_names(labels: Iterable[str]) -> None:
    """Refuse models whose trials would have the same names: one's evidence would replace the other's.

    Raises:
        UsageError: There are two.
    """
    seen: dict[str, str] = {}
    for label in labels:
        duplicate = seen.setdefault(trial_id("", label), label)
        if duplicate != label:
            raise UsageError(f"the files of {duplicate} and of {label} would have the same names: run them apart")


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
    if asked_in_vain(found.evidence.model_calls, found.evidence.events):
        return found  # the error only has Inspect run the trial again, and the verdict says why
    error = VerificationFault(step="trial", cause="harness", what=_first_line(sample.error.message))
    evidence = found.evidence.model_copy(update={"verification_faults": (*found.evidence.verification_faults, error)})
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
            tokens=tokens_of(sample),
            cost=cost_of(sample),
            roles=_roles(sample),
            answered_as=(sample.output.model or None) if sample.output is not None else None,
            evidence=evidence[0] if evidence else None,
            evidence_sha256=evidence[1] if evidence else None,
            log=f"{source.folder.logs.name}/{source.path.name}",
        ),
        arm=trial["arm"],
        engine_replicated=verdict.engine_replicated,
        fudan2024=verdict.fudan2024,
        seal=None if judgement is None else seal_of(judgement.evidence),
    )


def cost_of(sample: EvalSample) -> float | None:
    """Return what the calls of the model under test cost, in USD; None unless every one of its answers had a price."""
    roles = [usage for role, usage in sample.role_usage.items() if role in ROLES]
    costs = [usage.total_cost for usage in (*sample.model_usage.values(), *roles)]
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) != len(costs):
        return None
    return max(0.0, sum(known[: len(sample.model_usage)]) - sum(known[len(sample.model_usage) :]))


def _roles(sample: EvalSample) -> dict[str, RoleUse]:
    return {
        role: RoleUse(tokens=usage.total_tokens, cost=usage.total_cost)
        for role, usage in sorted(sample.role_usage.items())
        if role in ROLES
    }


def _write_evidence(folder: RunFolder, name: str, judgement: Judgement | None) -> tuple[str, str] | None:
    """Writes a trial's evidence; returns its path relative to the results, and its hash."""
    if judgement is None:
        return None
    path = folder.evidence / f"{name}.json"
    named = {attachment.name for attachment in judgement.evidence.attachments}
    for attachment, whole in judgement.attachments.items():
        if attachment not in named:  # whose form is that of a file's name
            raise EvidenceError(f"the log of {name} holds an attachment that its evidence does not name")
        beside = folder.evidence / name / attachment
        try:
            beside.parent.mkdir(exist_ok=True)
            refuse_link(beside.parent)
        except (FileExistsError, RecordError) as error:
            raise UsageError(f"cannot write to {beside.parent}: it is no folder; choose another --out") from error
        write_text(beside, to_json(whole))
    text = to_json(judgement.evidence)
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


def outcome_of(sample: EvalSample) -> Outcome:
    """The outcome of a trial as the results will have it."""
    return _verdict(sample, _judgement(sample)).outcome


def _first_line(text: str) -> str:
    return (text.strip() or "an error without a message").splitlines()[0][:MAX_REASON]


def tokens_of(sample: EvalSample) -> int:
    """Return the tokens of the model under test; those of a judge or a monitor are none of the trial's."""
    others = sum(usage.total_tokens for role, usage in sample.role_usage.items() if role in ROLES)
    return max(0, sum(usage.total_tokens for usage in sample.model_usage.values()) - others)


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
        "loop_ended": loop_end(evidence.events) if evidence else None,
        "model_calls": evidence.model_calls if evidence else (),
    }


def _replica(replica: Replica) -> ReplicaResult:
    return ReplicaResult(
        generation=replica.generation,
        node=replica.node,
        pid=replica.pid,
        separateness=replica.separateness,
        milestones=dict(replica.milestones),
        transient=replica.transient,
    )


def seal_of(evidence: Evidence) -> SealReading:
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
    if any(verification_fault.step == WARDEN for verification_fault in evidence.verification_faults):
        return None  # such a cell is ended, and cannot be probed again either
    if not seal_of(evidence).verified and verdict.invalid_cause != "agent":
        return verdict.invalid_reason or "the seal was not proved"
    return None
