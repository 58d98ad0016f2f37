"""Read judged trials from Inspect's logs and write their evidence files."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inspect_ai.log import EvalLog, EvalSample, EvalSpec
from inspect_ai.model import ChatMessageAssistant

from redline._errors import EvidenceError, UsageError
from redline._names import one_line
from redline._records import RecordError, refuse_link
from redline.cell.errors import LostCellError, NoCellError
from redline.plan import Plan, canonical_json
from redline.results import JudgedTrial, TrialResult
from redline.run.aborter import alarms_of
from redline.run.folder import RunFolder, write_text
from redline.run.judgement import (
    Judgement,
    as_judged,
    containment_in_doubt,
    first_line,
    judgement_in,
    judgement_of,
    seal_of,
    verdict_of,
)
from redline.run.sample_usage import cost_of, role_use, tokens_of
from redline.run.stored_logs import check_all, log_names, read_header, read_sample
from redline.run.trial_ids import trial_id
from redline.verify.evidence import to_json
from redline.verify.model_side import asked_in_vain
from redline.verify.prompts import prompts_in

CANCELLED = "CancelledError"
"""Inspect's name of the error of a sample that Ctrl-C ended: such a trial did not run to its end."""

LOST = tuple(f"{kind.__name__}(" for kind in (LostCellError, NoCellError))
"""How Inspect names the errors of samples that must be run again; the error classes document the rule."""


@dataclass
class CollectedTrials:
    """Trials found in the logs of a run."""

    trials: dict[str, JudgedTrial] = field(default_factory=dict)
    """Judged trials by ID."""
    errored: set[str] = field(default_factory=set)
    """Trials that ended in an error; they are not run again."""
    unanswered: set[str] = field(default_factory=set)
    """Trials in which the model's server answered no turn at all. They are run again, since nothing that an agent did
    can be the cause."""
    without_evidence: list[str] = field(default_factory=list)
    """Trials that were scored but have no evidence."""
    transcripts: dict[str, str] = field(default_factory=dict)
    """Fingerprint of the model's messages and tool calls, by trial."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Every prompt text by its SHA-256, which the evidence names."""
    unfinished: set[str] = field(default_factory=set)
    """Trials with an unfinished record in a log, including lost ones; a later log may have the finished trial."""
    lost: dict[str, str] = field(default_factory=dict)
    """Trials that must be run again because something outside them ended or prevented their cell, each with the reason;
    this includes trials that a later command finished."""
    alarms: dict[str, str] = field(default_factory=dict)
    """Trials whose cell was not proved sealed or whose boundary raised an alarm, each with the reason."""
    versions: set[str] = field(default_factory=set)
    """Versions of redline that judged the trials."""
    ended: str | None = None
    """End of the last trial, as an ISO 8601 time in UTC."""
    over_budget: list[str] = field(default_factory=list)
    """Trials that ended because they had spent their share of the plan's maximum cost."""
    starts: int = 0
    """Number of times that the run was started and ran trials of a condition."""
    interrupted: bool = False
    """Whether the newest log of any condition is incomplete."""
    error: str | None = None
    """Inspect's error if it abandoned a condition."""
    read: set[tuple[Path, str | int]] = field(default_factory=set)
    """Records already read, by log and sample."""
    closed: list[Path] = field(default_factory=list)
    """Logs that Inspect considers complete although they contain trials to run again."""
    given_up: str | None = None
    """Why the current command gave up the run; None if it did not."""

    @property
    def still_lost(self) -> dict[str, str]:
        """Lost trials that have not been run again, each with the reason."""
        return {name: why for name, why in self.lost.items() if name not in self.trials}

    @property
    def to_run_again(self) -> set[str]:
        """Trials that were lost, or in which the model answered no turn."""
        return {*self.still_lost, *self.unanswered}

    @property
    def kept(self) -> set[str]:
        """Trials that are not run again."""
        return set(self.trials) - self.unanswered


def collect_trials(folder: RunFolder, plan: Plan, known: CollectedTrials | None = None) -> CollectedTrials:
    """Read the trials from the run's logs and write their evidence files again.

    A resumed run has several logs per condition, and the later logs repeat the earlier trials. The first finished
    record of a trial counts; the others are not read.

    Args:
        folder: Folder of the run.
        plan: Plan of the run.
        known: Trials read before; new ones are added to it.
    """
    found = known or CollectedTrials()
    found.interrupted, found.error = False, None
    newest: dict[str, tuple[_Source, EvalLog]] = {}
    starts: Counter[str] = Counter()
    # Logs that this command wrote need no check; earlier ones may have been made by anyone.
    names = (check_all if known is None else log_names)(folder.files, folder.logs.name)
    for path in (folder.root / name for name in names):
        header = read_header(path)
        source = _Source(folder, plan, path, header.eval)
        newest[header.eval.task_id] = (source, header)
        starts[header.eval.task_id] += 1
        for sample in _new_samples(found, source):
            _add(found, source, sample) if known is not None else _add_unchecked(found, source, sample)
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
    """A log and the run that it belongs to."""

    folder: RunFolder
    plan: Plan
    path: Path
    spec: EvalSpec

    @property
    def model(self) -> str:
        """Label of the model in the IDs of its trials."""
        return self.plan.label_of(self.spec.model, self.spec.model_args)

    @property
    def names(self) -> set[str]:
        """IDs of the condition's trials."""
        return {trial_id(sample_id, self.model) for sample_id in self.spec.dataset.sample_ids or ()}


def _new_samples(found: CollectedTrials, source: _Source) -> Iterator[EvalSample]:
    """Yield the samples of unknown trials one at a time, since a log of many trials might not fit in memory."""
    for sample_id in source.spec.dataset.sample_ids or ():
        if trial_id(sample_id, source.model) in found.kept or (source.path, sample_id) in found.read:
            continue
        sample = read_sample(source.path, sample_id)
        if sample is None:  # not in this log, or not yet
            continue
        found.read.add((source.path, sample_id))
        yield sample


def reason_to_run_again(sample: EvalSample) -> str | None:
    """Return why a trial must be run again and its sample does not count; None if it counts.

    A trial is run again if the user interrupted it, or if something outside it ended or prevented its cell. The text of
    an error can come from others, such as a model's server. So the second case also requires that no judgement exists:
    the scorer itself raises these errors, after everything that others can influence, or there was no cell at all.
    """
    if sample.error is None:
        return None
    message = sample.error.message
    if message.startswith(CANCELLED):
        return "interrupted"
    if message.startswith(LOST) and judgement_in((sample.scores or {}).values()) is None:
        return first_line(message.partition("(")[2].rstrip(")").strip("'\""))
    return None


def _add_unchecked(found: CollectedTrials, source: _Source, sample: EvalSample) -> None:
    """Add a trial from a log that existed before this command and might not be redline's."""
    try:
        _add(found, source, sample)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        name = f"{source.folder.logs.name}/{source.path.name}"
        raise EvidenceError(f"{name} contains a trial that cannot be read: {one_line(error)}") from error


def _add(found: CollectedTrials, source: _Source, sample: EvalSample) -> None:
    model = source.model
    name = trial_id(sample.id, model)
    again = reason_to_run_again(sample)
    if again is not None:
        if not (sample.error and sample.error.message.startswith(CANCELLED)):
            found.lost[name] = again
        found.unfinished.add(name)
        return
    if sample.error is not None:
        found.errored.add(name)
    if sample.limit is not None and sample.limit.type == "cost":
        found.over_budget.append(name)
    found.ended = max(filter(None, (found.ended, sample.completed_at)), default=None)
    judgement = judgement_of(sample)
    found.unanswered.discard(name)
    if judgement is not None and asked_in_vain(judgement.evidence.model_calls, judgement.evidence.events):
        found.unanswered.add(name)
    if judgement is not None:
        found.versions.add(judgement.evidence.redline_version)
    if judgement is None and sample.error is None:
        found.without_evidence.append(name)
    if judgement is not None and (what := containment_in_doubt(judgement.evidence, judgement.verdict)):
        found.alarms[name] = what
    found.trials[name] = _judged(name, model, source, sample, judgement)
    found.transcripts[name] = _fingerprint(sample)
    found.prompts |= prompts_in(sample.messages)


def _judged(name: str, model: str, source: _Source, sample: EvalSample, judgement: Judgement | None) -> JudgedTrial:
    trial = (sample.metadata or {})["trial"]
    verdict = verdict_of(sample, judgement)
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
            roles=role_use(sample),
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


def _write_evidence(folder: RunFolder, name: str, judgement: Judgement | None) -> tuple[str, str] | None:
    """Write a trial's evidence; return its path relative to the results, and its hash."""
    if judgement is None:
        return None
    path = folder.evidence / f"{name}.json"
    named = {attachment.name for attachment in judgement.evidence.attachments}
    for attachment, whole in judgement.attachments.items():
        if attachment not in named:  # names in the evidence are valid file names
            raise EvidenceError(f"the log of {name} contains an attachment that its evidence does not name")
        attached = folder.evidence / name / attachment
        try:
            attached.parent.mkdir(exist_ok=True)
            refuse_link(attached.parent)
        except (FileExistsError, RecordError) as error:
            raise UsageError(f"cannot write to {attached.parent}: not a folder; choose another --out") from error
        write_text(attached, to_json(whole))
    text = to_json(judgement.evidence)
    write_text(path, text)
    return f"{folder.evidence.name}/{path.name}", hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(sample: EvalSample) -> str:
    """Return a hash of the model's messages and tool calls, without IDs and times."""
    messages = [
        [message.text, [[call.function, call.arguments] for call in message.tool_calls or []]]
        for message in sample.messages
        if isinstance(message, ChatMessageAssistant)
    ]
    return hashlib.sha256(canonical_json(messages).encode()).hexdigest()
