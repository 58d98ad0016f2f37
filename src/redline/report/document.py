"""The content of a report as data: a pure function of the runs that it covers.

HTML, Markdown and JSON are three representations of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from redline import __version__
from redline._text import counted
from redline.models.served import ServedModel
from redline.report._data import bounds
from redline.report.audit import RunAudit, audit_of
from redline.report.comparisons import Comparison, Numbered, compare
from redline.report.decision import (
    RunKind,
    RunVerdict,
    calibration_of,
    controls_remark,
    decide,
    is_control,
)
from redline.report.detectors import DetectorRow, detector_rows
from redline.report.disclosures import DisclosuresView, view_of
from redline.report.guard_summary import GuardSummary, guard_summaries
from redline.report.guards import GuardRow, guard_rows
from redline.report.labels import Label, labels
from redline.report.published import Published, published_trials
from redline.report.record import RunRecord
from redline.report.selection import shown_trials, trials_by_condition
from redline.report.table import seal_line
from redline.report.trial_view import EvidenceView, TrialView, trial_view
from redline.report.words import calibration_line, limits
from redline.results import Calibration, Condition, MeasureSummary, Results
from redline.stats import Count, percent
from redline.verify.verdict import MILESTONES, OUTCOMES


@dataclass(frozen=True)
class Headline:
    """The verdict on one run."""

    run: str
    kind: RunKind
    """What the run was for."""
    verdict: RunVerdict
    sentence: str
    """The verdict in one plain sentence."""
    points: tuple[str, ...]
    """The verdict on each tested condition, if there are several."""
    rule: str
    remark: str | None
    red_line: str | None
    """The red line as stated in the plan."""


@dataclass(frozen=True)
class ConditionView:
    """A condition with its rate and with figures from the evidence of its trials."""

    number: int
    run: str
    label: Label
    condition: Condition
    is_control: bool
    instructed: bool | None
    """Whether any text asked for a copy; None if there is no evidence."""
    job: Count | None
    """Trials in which the ordinary job was done."""
    replicas: int
    """Total number of replicas."""
    highest_generation: int
    next_generation: int
    """Trials in which a replica made a replica."""
    overuse: int
    """Trials in which the agent attempted more replicas than the cap allows."""
    harm: dict[str, int]
    measures: dict[str, str]
    """Other measures of the scenario."""


@dataclass(frozen=True)
class Prompt:
    """A text that a model received."""

    sha256: str
    text: str | None
    """The text; None if the folder does not contain it."""
    conditions: tuple[int, ...]
    trials: int
    omitted: int
    """Number of omitted characters."""


@dataclass(frozen=True)
class RunView:
    """The content of a report on one run."""

    name: str
    readable: bool
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    headline: Headline
    results: Results | None
    results_sha256: str | None
    signed_by: str | None
    measured: tuple[str, ...]
    """Times at which the seal was measured: each start and resumption of the run."""
    limits_of_a_cell: dict[str, str]
    seal: str
    calibration: str
    setup: tuple[tuple[str, str], ...]
    deviations: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    prompts_left_out: int
    trials: tuple[TrialView, ...]
    """The trials that the page shows."""
    trials_left_out: int = 0
    """Number of trials of a large run that are only in its results and evidence files."""
    guard_summaries: tuple[GuardSummary, ...] = ()
    """The settings of the guardrails over all attacks and jobs, if the run compares them."""
    calibrated: Calibration | None = None
    """The error rate of the verifier that this run measured; None if the run is not a calibration."""


@dataclass(frozen=True)
class Report:
    """The content of a report."""

    redline_version: str
    runs: tuple[RunView, ...]
    conditions: tuple[ConditionView, ...]
    comparisons: tuple[Comparison, ...]
    published: tuple[Published, ...]
    """The published counts of the scenarios that were run."""
    uninstructed_zeros: tuple[tuple[int, tuple[int, ...]], ...]
    """Uninstructed conditions without a replica, each with the instructed conditions of the same model."""
    limits: tuple[str, ...]
    guards: tuple[GuardRow, ...] = ()
    """The settings of the guardrails, if there is any other than off."""
    detectors: tuple[DetectorRow, ...] = ()
    """The detectors."""
    audits: tuple[RunAudit, ...] = ()
    """Sampled trials, elicitation and the conditions under which the conclusion fails, by run."""
    disclosures: DisclosuresView = field(default_factory=lambda: view_of(None))
    """What only the evaluator can state."""
    milestones: tuple[str, ...] = MILESTONES
    outcomes: tuple[str, ...] = OUTCOMES

    @property
    def doubtful(self) -> bool:
        """Whether the records of any run are inconsistent."""
        return any(run.faults for run in self.runs)


def report_on(records: Sequence[RunRecord], disclosures: DisclosuresView | None = None) -> Report:
    """Return the report on one or more runs, with the evaluator's disclosures if there are any."""
    numbered = list(_numbered(records))
    several = len(records) > 1
    named = labels([(one.run if several else "", one.condition) for _, one in numbered])
    conditions = tuple(
        _condition_view(one, label, records[index].evidence)
        for (index, one), label in zip(numbered, named, strict=True)
    )
    scenarios = {view.condition.scenario for view in conditions}
    return Report(
        redline_version=__version__,
        runs=tuple(
            _run_view(record, name, [one for of_run, one in numbered if of_run == index])
            for index, (record, name) in enumerate(zip(records, run_names(records), strict=True))
        ),
        conditions=conditions,
        comparisons=compare([one for index, one in numbered if not records[index].doubtful]),
        published=tuple(row for row in published_trials() if row.scenario in scenarios),
        uninstructed_zeros=tuple(_uninstructed_zeros(conditions)),
        limits=limits(),
        guards=tuple(_guards(records)),
        detectors=tuple(row for one in records if one.results is not None for row in detector_rows(one.results)),
        audits=tuple(_audits(records, numbered)),
        disclosures=disclosures or view_of(None),
    )


def _audits(records: Sequence[RunRecord], numbered: Sequence[tuple[int, Numbered]]) -> Iterator[RunAudit]:
    for index, record in enumerate(records):
        if record.results is not None:
            numbers = {trial.id: one.number for of_run, one in numbered if of_run == index for trial in one.trials}
            yield audit_of(record.name, record.results, record.commands, numbers)


def _guards(records: Sequence[RunRecord]) -> Iterator[GuardRow]:
    """Yield the rows of every scenario and model that ran with guardrails."""
    for record in records:
        rows = guard_rows(record.results) if record.results is not None else ()
        guarded = {(row.scenario, row.model) for row in rows if row.pairs is not None}
        yield from (row for row in rows if (row.scenario, row.model) in guarded)


def _numbered(records: Sequence[RunRecord]) -> Iterator[tuple[int, Numbered]]:
    number = 0
    names = run_names(records)
    for index, record in enumerate(records):
        if record.results is None:
            continue
        for condition, theirs in trials_by_condition(record.results):
            number += 1
            yield index, Numbered(number, names[index], condition, theirs)


def run_names(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return distinct names of the runs: the names of their folders, with a number where several are equal."""
    names = [record.name for record in records]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    )


def _condition_view(one: Numbered, label: Label, evidence: dict[str, EvidenceView]) -> ConditionView:
    seen = [evidence[trial.id] for trial in one.trials if trial.id in evidence]
    jobs = [view.job for view in seen if view.job is not None]
    replicas = [replica for trial in one.trials for replica in trial.replicas]
    harm = Counter(what for view in seen for what in view.harm)
    return ConditionView(
        number=one.number,
        run=one.run,
        label=label,
        condition=one.condition,
        is_control=is_control(one.condition),
        instructed=any(view.instructed for view in seen) if seen else None,
        job=Count(k=sum(jobs), n=len(jobs)) if jobs else None,
        replicas=len(replicas),
        highest_generation=max((replica.generation for replica in replicas), default=0),
        next_generation=sum(view.next_generation for view in seen),
        overuse=sum(view.overuse for view in seen),
        harm=dict(sorted(harm.items())),
        measures=measures_of(one.condition),
    )


def measures_of(condition: Condition) -> dict[str, str]:
    """Return the measures of a scenario, other than the outcome, as text."""
    return {name: measure_words(value) for name, value in condition.measures.items()}


def measure_words(value: MeasureSummary) -> str:
    """Format a measure: yes or no as k/n with its interval, a number as its mean and range."""
    if value.rate is not None:
        return f"{value.rate.k}/{value.rate.n} ({percent(value.rate.clopper_pearson95)})"
    return f"{value.mean:g} on average, {value.smallest:g} to {value.largest:g} (n = {value.n})"


def _uninstructed_zeros(conditions: Sequence[ConditionView]) -> Iterator[tuple[int, tuple[int, ...]]]:
    for view in conditions:
        if view.instructed is False and view.condition.rate.n and view.condition.rate.k == 0:
            asked = [
                other.number
                for other in conditions
                if other.instructed and other.condition.model == view.condition.model
            ]
            yield view.number, tuple(asked)


def _run_view(record: RunRecord, name: str, conditions: Sequence[Numbered]) -> RunView:
    results = record.results
    if results is None:
        return _unreadable(record, name)
    condition_of = {trial.id: one.number for one in conditions for trial in one.trials}
    decision = decide(results, record.faults)
    prompts = list(_prompts(record, condition_of))
    shown = bounds().prompts
    shown_trial_ids = shown_trials(results)
    return RunView(
        name=name,
        readable=True,
        faults=record.faults,
        notes=record.notes,
        headline=Headline(
            run=name,
            kind=decision.kind,
            verdict=decision.verdict,
            sentence=decision.sentence,
            points=decision.points,
            rule=decision.why,
            remark=controls_remark(results),
            red_line=results.plan.red_line,
        ),
        results=results,
        results_sha256=record.results_sha256,
        signed_by=record.signed_by,
        measured=tuple(f"{seal.at:%Y-%m-%d %H:%M} UTC" for seal in record.seals),
        limits_of_a_cell=_limits_of_a_cell(record),
        seal=seal_line(results),
        calibration=calibration_line(results.calibration, results.seal.runtime),
        setup=tuple(_setup(results)),
        deviations=tuple(_deviations(results)),
        prompts=tuple(prompts[:shown]),
        prompts_left_out=max(len(prompts) - shown, 0),
        trials=tuple(
            trial_view(trial, condition_of.get(trial.id, 0), record.evidence.get(trial.id))
            for trial in results.trials
            if trial.id in shown_trial_ids
        ),
        trials_left_out=len(results.trials) - len(shown_trial_ids),
        guard_summaries=guard_summaries(results) if decision.kind == "guardrails" else (),
        calibrated=calibration_of(results) if decision.kind == "calibration" else None,
    )


def _unreadable(record: RunRecord, name: str) -> RunView:
    words = "its results cannot be read, so the run supports no claim"
    return RunView(
        name=name,
        readable=False,
        faults=record.faults,
        notes=record.notes,
        headline=Headline(name, "none", "none", f"No verdict: {words}.", (), words, None, None),
        results=None,
        results_sha256=None,
        signed_by=None,
        measured=(),
        limits_of_a_cell={},
        seal="",
        calibration="",
        setup=(),
        deviations=(),
        prompts=(),
        prompts_left_out=0,
        trials=(),
    )


def _limits_of_a_cell(record: RunRecord) -> dict[str, str]:
    if not record.seals:
        return {}
    cell = record.seals[-1].cell.model_dump(mode="json")
    return {name: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in cell.items()}


def _setup(results: Results) -> Iterator[tuple[str, str]]:
    plan = results.plan
    yield "redline", results.redline_version
    for spec in plan.every_model:
        theirs = [trial for trial in results.trials if trial.model == plan.label_of(spec.name, spec.args)]
        answered = sorted({trial.answered_as for trial in theirs if trial.answered_as})
        arguments = ", ".join(f"{name}={value}" for name, value in spec.args.items())
        parts = [spec.name, arguments, f"answered as {', '.join(answered)}" if answered else "", _usage(theirs)]
        yield "model", "; ".join(filter(None, parts))
    for served in results.models:
        yield f"served for {served.model}", _served(served)
    temperature = plan.temperature if plan.temperature is not None else "default of the model"
    yield "sampling", f"temperature {temperature}, at most {plan.max_tokens} tokens per call"
    numbers = ", ".join(map(str, dict.fromkeys(plan.trials_of(arm) for arm in plan.arms)))
    yield "trials", f"{numbers} per arm and model, seed {plan.seed}, hold {plan.hold:g} s"
    yield "runtime", f"{plan.runtime} requested, {results.seal.runtime or 'none'} used"
    yield "cost limit", "none" if plan.max_cost is None else f"${plan.max_cost:g}, divided equally among the trials"
    for name in sorted({name for arm in plan.arms for name in arm.factors}):
        settings = dict.fromkeys(str(arm.factors[name]) for arm in plan.arms if name in arm.factors)
        yield f"factor {name}", ", ".join(settings)


def _served(served: ServedModel) -> str:
    sampling = ", ".join(f"{name} {value:g}" for name, value in served.sampling.items())
    template = served.chat_template_sha256
    return (
        f"{served.file} (sha256 {served.sha256}), {served.architecture}, {served.quantisation or 'unknown type'}, "
        f"context {served.context or 'unknown'} of {served.trained_context or 'unknown'} trained, "
        f"{served.slots} slots, default limit {served.max_tokens} tokens per call; "
        f"{'no chat template' if template is None else f'chat template sha256 {template}'}; {served.server}; "
        f"default sampling of the server: {sampling}"
    )


def _usage(trials: Sequence[Any]) -> str:
    tokens = sum(trial.tokens or 0 for trial in trials)
    costs = [trial.cost for trial in trials if trial.cost is not None]
    seconds = sum(trial.seconds or 0.0 for trial in trials)
    cost = f"${sum(costs):.2f}" if costs and len(costs) == len(trials) else "cost unknown (no prices given)"
    return f"{tokens} tokens, {cost}, {seconds:.0f} s of trials"


def _deviations(results: Results) -> Iterator[str]:
    yield from results.deviations
    causes = Counter((trial.invalid_cause, trial.unjudged) for trial in results.trials if trial.invalid_cause)
    for (cause, reason), count in causes.most_common(bounds().rows):
        yield f"{counted(count, 'trial')} invalid, caused by the {cause}: {reason}"
    if unexposed := sum(not trial.exposed for trial in results.trials if trial.outcome != "invalid"):
        yield f"not exposed to the event of their arm and counted separately: {counted(unexposed, 'trial')}"
    if results.redline_version != __version__:
        yield f"judged by redline {results.redline_version}, reported by {__version__}"


def _prompts(record: RunRecord, condition_of: dict[str, int]) -> Iterator[Prompt]:
    """Yield every text that a model received, the one with the most trials first."""
    trials_of: dict[str, list[str]] = {}
    for trial, view in record.evidence.items():
        for sha256 in view.prompts:
            trials_of.setdefault(sha256, []).append(trial)
    by_use = sorted(trials_of.items(), key=lambda item: -len(item[1]))
    limit = bounds().prompt
    for sha256, trials in by_use:
        text = record.prompts.get(sha256)
        yield Prompt(
            sha256=sha256,
            text=None if text is None else text[:limit],
            conditions=tuple(sorted({condition_of[trial] for trial in trials if trial in condition_of})),
            trials=len(trials),
            omitted=max(len(text or "") - limit, 0),
        )


def numbers(values: Iterable[int]) -> str:
    """Format the numbers of conditions, such as `1, 3`."""
    return ", ".join(map(str, values))
