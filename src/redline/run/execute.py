"""Runs a plan: Inspect draws and judges the trials, and what its logs hold becomes the results."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import rich
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inspect_ai import Task, eval_set, task_with
from inspect_ai._util.error import PrerequisiteError  # Inspect raises it from its public calls, but does not export it
from inspect_ai.model import GenerateConfig, Model

from redline._errors import ExitCode, RedlineError, UsageError
from redline._names import one_line
from redline.catalog import scenarios
from redline.cell import CellConfig
from redline.cell.runtime import choose_runtime
from redline.guardrails.llm_monitor import ROLE as MONITOR
from redline.models.limits import limits
from redline.plan import Arm, ModelSpec, Plan, completed
from redline.results import Results, assemble
from redline.run.aborter import RunAborter
from redline.run.calibration import kept_calibration
from redline.run.chain import chained
from redline.run.extract import CollectedTrials, collect_trials, reading_of, refuse_same_names, trial_id
from redline.run.folder import RunFolder, write_text
from redline.run.inspect_data import give_inspect_a_folder
from redline.run.interrupts import Interrupts, terminating_like_interrupt
from redline.run.models import (
    cells_at_once,
    check_solvers,
    plain,
    price,
    ready_models,
    ready_roles,
    refuse_dead_servers,
    refuse_weak_runtime,
)
from redline.run.preflight import Preflights, latest, preflights_of, try_models
from redline.run.prompts import keep_prompts
from redline.run.reopen import reopen
from redline.run.room import check_room
from redline.run.scheduler import AHEAD, TrialScheduler, run_order
from redline.run.seals import SealAtStart, note_seal, seals_of
from redline.run.servers import cells_for, embedded_servers, served_models
from redline.run.signature import drop_stale, sign
from redline.run.waiting import ModelWait, shown_waits
from redline.run.watch import ConditionWatch, Watcher
from redline.scenarios import full_seal
from redline.verify.judge import ROLE as JUDGE
from redline.verify.model_side import reason_kind

SOURCE_OF_TASK = "__task_file__"

HARNESS_INVALID_SHARE = 0.05
"""More invalid trials by the harness's own fault than this share (and than one) make a run a failure."""

ROUNDS = 3
"""So often one command runs trials that were lost by no doing of their own; what is lost then waits for the next."""

MAX_REASONS = 3


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    results: Results
    """Its results, also written to its folder."""
    exit_code: ExitCode
    """How the command ends."""
    remarks: tuple[str, ...]
    """What the user must know beside the table, a line each."""
    versions: frozenset[str]
    """Versions of redline that judged the trials."""
    ended: str | None
    """When the last trial ended, as an ISO 8601 time of UTC."""


@dataclass(frozen=True)
class Options:
    """How to run a plan, as far as it changes no result."""

    prices: Path | None = None
    """File of model prices."""
    cells: int | None = None
    """Cells at once; none leaves it to the machine's size."""
    key: Ed25519PrivateKey | None = None
    """Who signs the results; none leaves them unsigned."""
    judge: str | None = None
    """A model, as Inspect names it, that answers beside the code checks."""
    monitor: str | None = None
    """A model, as Inspect names it, that guardrails ask which are models."""
    max_retries: int | None = None
    """Tries of a call after the first one; None takes redline's default."""
    model_timeout: int | None = None
    """Maximum duration of one try, in seconds; None takes redline's default."""
    model_wait: float | None = None
    """Time that the run waits for a model that does not answer, in seconds; None takes redline's default."""
    preflight: bool = True
    """Whether every model's server is tried before the first cell."""
    is_calibration: bool = False
    """Whether the run is a calibration itself, whose results bear none."""


def run_plan(plan: Plan, folder: RunFolder, watcher: Watcher, options: Options | None = None) -> Outcome:
    """Draws every trial of the plan that its folder does not hold yet, and computes the results."""
    options = options or Options()
    if remark := give_inspect_a_folder():
        watcher.note(remark)
    plan = completed(plan)
    runtime = choose_runtime(plan.runtime).name
    refuse_weak_runtime(plan, runtime)
    price(plan, options.prices, (options.judge, options.monitor))
    bounds = GenerateConfig(max_retries=options.max_retries, attempt_timeout=options.model_timeout)
    models = ready_models(plan, bounds)
    refuse_same_names(models)
    roles = ready_roles(plan, judge=options.judge, monitor=options.monitor, bounds=bounds)
    refuse_dead_servers([*models.values(), *roles.values()])
    check_solvers(plan)
    roles_named = {JUDGE: options.judge, MONITOR: options.monitor}
    with terminating_like_interrupt():
        tried = try_models(plan, roles_named, folder, bounds=bounds, skip=not options.preflight)
    conditions = [
        _Condition(arm_task(arm, plan), models[label], label, arm, spec)
        for arm in plan.arms
        for spec in plan.models_of(arm)
        for label in (plan.label_of(spec.name, spec.args),)
    ]
    shapes = shapes_of([condition.task for condition in conditions])
    with folder.claimed(plan) as record, ExitStack() as servers:
        found = collect_trials(folder, plan)
        if len(found.kept) < plan.planned_trials:
            with terminating_like_interrupt():
                servers.enter_context(embedded_servers(models, roles, folder, options.cells))
                own = try_models(plan, {}, folder, bounds=bounds, skip=not options.preflight, running=models)
            tried = tried.merged(own)
        for line in tried.lines():
            watcher.checked(line)
        tried.note(folder)
        cells = options.cells or cells_at_once(runtime, shapes, cells_for(models.values()))
        if options.cells and (warning := check_room(options.cells, shapes)) is not None:
            watcher.note(warning)
        run = _Run(plan, record.sha256, folder, watcher, conditions, cells, roles, tried, options.model_wait)
        unproved = None
        if len(found.kept) < plan.planned_trials:
            unproved = _measure_seal([condition.task for condition in conditions], folder, watcher)
        stopped = unproved is None and _run_all(run, found)
        watcher.ended()
        servers.close()  # the logs of the servers are records of the results
        calibration = None if options.is_calibration else kept_calibration(runtime)
        keep_prompts(folder, found.prompts)
        at_start = [reading_of([seal.report]) for seal in seals_of(folder)]
        results = assemble(
            record,
            found.trials.values(),
            calibration,
            at_start,
            list(_noted(found)),
            preflight=latest(preflights_of(folder)),
        )
        results = chained(results.model_copy(update={"models": served_models(folder)}), folder)
        write_text(folder.results, results.document())
        unsigned = tuple(_signed(folder, results, options.key))
    nothing_ran = () if unproved is None else (f"{unproved}; nothing was run",)
    given_up = () if found.given_up is None else (found.given_up,)
    return Outcome(
        results=results,
        exit_code=ExitCode.SEAL if unproved is not None else _exit_code(plan, results, found, stopped),
        remarks=(*nothing_ran, *given_up, *_remarks(plan, results, found), *unsigned),
        versions=frozenset(found.versions),
        ended=found.ended,
    )


def _signed(folder: RunFolder, results: Results, key: Ed25519PrivateKey | None) -> Iterator[str]:
    """Signs the results, or says that an earlier signature is not theirs."""
    if key is not None:
        sign(folder, results.chain.head, key)
    elif drop_stale(folder, results.chain.head):
        yield "the results changed, and the signature of the earlier ones is removed; --sign KEY signs these"


@dataclass(frozen=True)
class _Condition:
    """One arm with one model."""

    task: Task
    model: Model
    label: str
    arm: Arm
    spec: ModelSpec


@dataclass(frozen=True)
class _Run:
    """What stays the same however often Inspect is called to complete a run."""

    plan: Plan
    plan_sha256: str
    folder: RunFolder
    watcher: Watcher
    conditions: Sequence[_Condition]
    cells: int
    roles: dict[str, Model]
    tried: Preflights
    model_wait: float | None


def _run_all(run: _Run, found: CollectedTrials) -> bool:
    """Has every trial run that is not known yet, and those again that were lost; returns whether the user stopped it.

    Args:
        run: What is run.
        found: The trials that the folder holds; grows by the new ones.
    """
    for _ in range(ROUNDS):
        run.watcher.began(run.plan.planned_trials, len(found.kept), run.cells)
        # Where nothing is left, Inspect would read every trial of every log once more.
        if not _order(run, found) and not found.interrupted and found.error is None:
            return False
        reopen(run.folder, found.closed)
        stopped = _run_condition(run, found)
        collect_trials(run.folder, run.plan, found)
        lost = found.lost_for_now
        if stopped or found.given_up or not lost or found.alarms or found.error is not None:
            return stopped
        run.watcher.note(f"{_lost_words(lost)}; running them again")
    return False


def _lost_words(lost: Mapping[str, str]) -> str:
    reasons = Counter(lost.values())
    return f"{len(lost)} trials were lost ({'; '.join(reason for reason, _ in reasons.most_common(MAX_REASONS))})"


def _order(run: _Run, found: CollectedTrials) -> list[str]:
    """The order in which what is still to be drawn starts."""
    names = [[trial_id(str(sample.id), one.label) for sample in one.task.dataset] for one in run.conditions]
    drawn = {*found.kept, *found.alarms}
    return [name for name in run_order(names, run.plan.seed) if name not in drawn]


def _prepared(condition: _Condition, run: _Run, model: Model, watch: ConditionWatch) -> Task:
    """The condition's task with its model, its trials bound to the plan, and those left out that were drawn before."""
    tool_calls = run.tried.tool_calls(condition.arm, condition.label)
    for sample in condition.task.dataset:
        if sample.metadata is not None:
            sample.metadata["trial"]["plan_sha256"] = run.plan_sha256
            if tool_calls is not None:
                sample.metadata["trial"]["tool_calls"] = tool_calls
    return task_with(condition.task, model=model, early_stopping=watch)


def _measure_seal(tasks: Sequence[Task], folder: RunFolder, watcher: Watcher) -> str | None:
    """Measures the full set of probes on each shape of cell that the run will have, and binds its trials to it.

    Returns:
        Why the seal is not proved, so that nothing may run; None where it is.
    """
    for shape, theirs in shapes_of(tasks).items():
        watcher.sealing(shape.runtime)
        with terminating_like_interrupt():
            seal = SealAtStart.now(shape, anyio.run(full_seal, shape))
        note_seal(folder, seal)
        watcher.sealed(seal.report.summary(), seal.report.seconds)
        if not seal.report.verified:
            return seal.report.summary()
        for task in theirs:
            task.metadata = {**(task.metadata or {}), "seal": seal.report.model_dump(mode="json")}
            for sample in task.dataset:
                if sample.metadata is not None:
                    sample.metadata["trial"]["seal_sha256"] = seal.sha256
    return None


def shapes_of(tasks: Sequence[Task]) -> dict[CellConfig, list[Task]]:
    """The shapes of the run's cells, and the tasks whose cells have them."""
    shapes: dict[CellConfig, list[Task]] = {}
    for task in tasks:
        if task.sandbox is not None and isinstance(task.sandbox.config, CellConfig):
            shapes.setdefault(task.sandbox.config, []).append(task)
    return shapes


def arm_task(arm: Arm, plan: Plan) -> Task:
    """The Inspect task of one arm."""
    settings = {"trials": plan.trials_of(arm), "seed": plan.seed, "hold": plan.hold, "runtime": plan.runtime}
    try:
        task = scenarios()[arm.scenario].task(**arm.factors, **settings)
    except RedlineError:
        raise
    except ValueError as error:
        raise UsageError(f"{arm.scenario}: {one_line(error)}") from error
    if not isinstance(task, Task):
        raise TypeError(f"{arm.scenario} made a {type(task).__name__}, not a task")
    # Inspect counts the path of a task's source, as seen from the working folder, as part of what the task is, and
    # would then not know its own logs again when a run is resumed from elsewhere.
    setattr(task, SOURCE_OF_TASK, None)
    return task


def _run_condition(run: _Run, found: CollectedTrials) -> bool:
    """Lets Inspect run what is left of the plan; returns whether the user stopped it."""
    scheduler = TrialScheduler(_order(run, found), run.cells + AHEAD)
    aborter = RunAborter(run.folder)
    aborter.on_stopped(scheduler.release)
    aborter.on_given_up(scheduler.release)
    aborter.on_stopped(lambda: run.watcher.note(_stopping(aborter.in_flight)))
    interrupts = Interrupts(aborter.ask_to_stop, aborter.stop)
    aborter.on_begun(interrupts.take_over)
    waits: dict[Model, ModelWait] = {}
    tasks = []
    for one in run.conditions:
        model = run.tried.model(one.arm, one.spec, one.label, one.model)
        wait = waits.setdefault(model, ModelWait(model, aborter, run.model_wait))
        watch = ConditionWatch(one.label, found, run.watcher, aborter, scheduler, wait)
        tasks.append(_prepared(one, run, model, watch))
    rich.reconfigure(quiet=True)  # Inspect's own console, as with display="none"
    try:
        with interrupts.installed(), shown_waits(list(waits), run.watcher):
            eval_set(
                tasks,
                log_dir=str(run.folder.logs),
                model_roles=dict(run.roles),
                # Never draw a trial again: neither a task that failed nor a sample that ended in an error.
                retry_attempts=0,
                retry_immediate=False,
                retry_on_error=0,
                # An errored trial that an earlier attempt recorded is in the earlier attempt's log alone.
                retry_cleanup=False,
                # One bad trial ends neither the others nor itself unjudged.
                fail_on_error=False,
                continue_on_fail=True,
                score_on_error=True,
                # Every finished trial is on disk before the next: that is what a resumed run keeps.
                log_buffer=1,
                log_realtime=False,
                log_format="eval",
                max_samples=_samples_at_once(run, found),
                max_sandboxes=run.cells,
                max_tasks=len(tasks),
                cost_limit=run.plan.cost_per_trial,
                cache=False,
                # Nothing is shown: "none" would draw a table of all conditions before it throws it away.
                display="log",
                log_level="error",
                score_display=False,
                ctl_server=False,
            )
    except KeyboardInterrupt:
        return True
    except PrerequisiteError as error:
        raise UsageError(plain(error)) from error
    found.given_up = aborter.given_up
    return aborter.stopped


def _samples_at_once(run: _Run, found: CollectedTrials) -> int:
    """How many samples of a condition Inspect lets in; of these, scheduler and cells bound how many run.

    They come in the order of their numbers, so as many as there are cells suffice. But a trial that a log holds
    unfinished comes late, since Inspect reads the log first, and would find the places taken by those whose turn is
    after its own. Then all are let in; one that waits takes some 25 KiB.
    """
    if found.cut <= found.trials.keys():
        return run.cells
    return max(run.cells, *(len(one.task.dataset) for one in run.conditions))


def _stopping(in_flight: int) -> str:
    """What a first Ctrl-C is answered with."""
    if in_flight == 0:
        return "Stopping: no trial is in flight."
    are = "trial is" if in_flight == 1 else "trials are"
    return f"Stopping: {in_flight} {are} finishing. Press Ctrl-C again to cut them."


def _exit_code(plan: Plan, results: Results, found: CollectedTrials, stopped: bool) -> ExitCode:
    """The first that applies, in the order of the contract."""
    valid = [trial for trial in results.trials if trial.outcome != "invalid"]
    by_harness = [trial for trial in results.trials if trial.invalid_cause == "harness"]
    lost = found.lost_for_now
    missing = plan.planned_trials - len({*found.trials, *found.alarms})
    applies = {
        ExitCode.INTERRUPTED: missing > 0 and (stopped or (found.interrupted and found.error is None)),
        ExitCode.INTERNAL: found.error is not None,
        ExitCode.SEAL: bool(found.alarms),
        ExitCode.EVIDENCE: bool(found.without_evidence),
        ExitCode.NOTHING_SCORED: not valid
        or bool(lost)
        or found.given_up is not None
        or len(by_harness) > max(1, HARNESS_INVALID_SHARE * plan.planned_trials),
    }
    return next((code for code, holds in applies.items() if holds), ExitCode.OK)


def _noted(found: CollectedTrials) -> Iterator[str]:
    """Where the run did not keep to its plan, as only its logs tell."""
    if found.starts > 1:
        why = ", or trials that were lost were run again" if found.lost else ""
        yield f"the run was stopped and taken up again{why}: it was started {found.starts} times"
    if len(found.versions) > 1:
        yield f"trials were judged by several versions of redline: {', '.join(sorted(found.versions))}"
    if found.over_budget:
        yield f"{len(found.over_budget)} trials were ended since they had spent their share of max_cost"
    if again := {name: why for name, why in found.lost.items() if name in found.trials}:
        yield f"{_lost_words(again)} and run again"
    if found.alarms:
        yield f"an alarm ended the run early; trials in doubt: {', '.join(sorted(found.alarms))}"
    if found.error is not None:
        yield f"Inspect gave up on a condition: {one_line(Exception(found.error))}"


def _remarks(plan: Plan, results: Results, found: CollectedTrials) -> Iterator[str]:
    if found.error is not None:
        yield f"Inspect gave up: {one_line(Exception(found.error))}"
    lost = set(found.alarms) - {trial.id for trial in results.trials}
    missing = plan.planned_trials - len(results.trials) - len(lost)
    if still := found.lost_for_now:
        yield _lost_words(still)
    if missing:
        yield f"{missing} of {plan.planned_trials} trials are still to be drawn; the same command resumes"
    if found.unasked:
        yield f"in {len(found.unasked)} trials the model answered nothing at all; the same command runs them again"
    yield from _cut_short(results)
    invalid = [trial for trial in results.trials if trial.invalid_cause]
    kinds = Counter((trial.invalid_cause, reason_kind(trial.unjudged or "")) for trial in invalid)
    for (cause, kind), count in kinds.most_common():
        # Reasons of one kind differ in tries and seconds: the first stands for all.
        reason = next(trial.unjudged for trial in invalid if reason_kind(trial.unjudged or "") == kind)
        yield f"{count} invalid by the {cause}: {reason}"
    evidence = {trial.id: trial.evidence for trial in results.trials}
    for trial, what in found.alarms.items():
        yield f"{trial}: {what}; evidence: {evidence.get(trial) or 'none, the run was cut short'}"
    for trial in found.without_evidence:
        yield f"{trial} left no evidence"
    if plan.temperature == 0:
        yield from _identical_transcripts(results, found)


def _cut_short(results: Results) -> Iterator[str]:
    """Warn where a bound, and not the agent, ended many trials."""
    for condition in results.conditions:
        side = condition.model_side
        for count, what, option in (
            (side.ended_by_time, "the time limit", "-T time_limit"),
            (side.ended_by_length, "the maximum output length", "--max-tokens"),
        ):
            if count.k and count.k >= limits().rules.cut_short_share * count.n:
                yield (
                    f"{condition.scenario} {condition.model}: {what} ended {count.k} of {count.n} valid trials, so the "
                    f"rate may be too low; raise {option}"
                )


def _identical_transcripts(results: Results, found: CollectedTrials) -> Iterator[str]:
    """At temperature 0 a model may say the same every time: then n trials are one draw, not n."""
    for condition in results.conditions:
        if condition.model.startswith("redline/"):
            continue
        prints = [
            found.transcripts[trial.id]
            for trial in results.trials
            if (trial.scenario, trial.factors, trial.model) == (condition.scenario, condition.factors, condition.model)
        ]
        if len(set(prints)) < len(prints):
            yield (
                f"{condition.scenario} {condition.model}: {len(prints)} trials hold {len(set(prints))} different "
                "transcripts; at temperature 0 such trials are no independent draws, and the intervals are too narrow"
            )
