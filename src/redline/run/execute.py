"""Runs a plan: Inspect draws and judges the trials, and what its logs hold becomes the results."""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import anyio
import rich
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inspect_ai import Task, eval_set, task_with
from inspect_ai._util.error import PrerequisiteError  # Inspect raises it from its public calls, but does not export it
from inspect_ai.model import Model

from redline._errors import ExitCode, RedlineError, UsageError
from redline._names import one_line
from redline.catalog import scenarios
from redline.cell import CellConfig
from redline.cell.runtime import choose_runtime
from redline.plan import Arm, Plan, completed
from redline.results import Results, assemble
from redline.run.brake import Brake
from redline.run.calibration import kept_calibration
from redline.run.chain import chained
from redline.run.extract import Harvest, harvest, reading_of, trial_id
from redline.run.folder import RunFolder, write_text
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
from redline.run.prompts import keep_prompts
from redline.run.seals import SealAtStart, note_seal, seals_of
from redline.run.signature import drop_stale, sign
from redline.run.turns import AHEAD, Turns, drawn_order
from redline.run.watch import ConditionWatch, Watcher
from redline.scenarios import full_seal

SOURCE_OF_TASK = "__task_file__"

HARNESS_INVALID_SHARE = 0.05
"""More invalid trials by the harness's own fault than this share (and than one) make a run a failure."""


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
    is_calibration: bool = False
    """Whether the run is a calibration itself, whose results bear none."""


def run_plan(plan: Plan, folder: RunFolder, watcher: Watcher, options: Options | None = None) -> Outcome:
    """Draws every trial of the plan that its folder does not hold yet, and computes the results."""
    options = options or Options()
    plan = completed(plan)
    runtime = choose_runtime(plan.runtime).name
    refuse_weak_runtime(plan, runtime)
    price(plan, options.prices)
    models = ready_models(plan)
    roles = ready_roles(plan, judge=options.judge, monitor=options.monitor)
    refuse_dead_servers([*models.values(), *roles.values()])
    check_solvers(plan)
    conditions = [
        _Condition(arm_task(arm, plan), models[label], label)
        for arm in plan.arms
        for label in (plan.label_of(spec.name, spec.args) for spec in plan.models_of(arm))
    ]
    with folder.claimed(plan) as record:
        earlier = harvest(folder, plan)
        brake = Brake(folder)
        cells = options.cells or cells_at_once(runtime, shapes_of([condition.task for condition in conditions]))
        turns = Turns(_order(plan, conditions, earlier), cells + AHEAD)
        tasks = [
            _prepared(condition, record.sha256, ConditionWatch(condition.label, earlier, watcher, brake, turns))
            for condition in conditions
        ]
        unproved = None
        if len(earlier.trials) < plan.planned_trials:
            unproved = _measure_seal(tasks, folder, watcher)
        watcher.began(plan.planned_trials, len(earlier.trials), cells)
        stopped = unproved is None and _draw(plan, tasks, folder, cells, roles)
        watcher.ended()
        found = harvest(folder, plan)
        calibration = None if options.is_calibration else kept_calibration(runtime)
        keep_prompts(folder, found.prompts)
        at_start = [reading_of([seal.report]) for seal in seals_of(folder)]
        results = chained(assemble(record, found.trials.values(), calibration, at_start, list(_noted(found))), folder)
        write_text(folder.results, results.document())
        unsigned = tuple(_signed(folder, results, options.key))
    nothing_ran = () if unproved is None else (f"{unproved}; nothing was run",)
    return Outcome(
        results=results,
        exit_code=ExitCode.SEAL if unproved is not None else _exit_code(plan, results, found, stopped),
        remarks=(*nothing_ran, *_remarks(plan, results, found), *unsigned),
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


def _order(plan: Plan, conditions: Sequence[_Condition], earlier: Harvest) -> list[str]:
    """The order in which what is still to be drawn starts."""
    names = [[trial_id(str(sample.id), one.label) for sample in one.task.dataset] for one in conditions]
    drawn = {*earlier.trials, *earlier.alarms}
    return [name for name in drawn_order(names, plan.seed) if name not in drawn]


def _prepared(condition: _Condition, plan_sha256: str, watch: ConditionWatch) -> Task:
    """The condition's task with its model, its trials bound to the plan, and those left out that were drawn before."""
    for sample in condition.task.dataset:
        if sample.metadata is not None:
            sample.metadata["trial"]["plan_sha256"] = plan_sha256
    return task_with(condition.task, model=condition.model, early_stopping=watch)


def _measure_seal(tasks: Sequence[Task], folder: RunFolder, watcher: Watcher) -> str | None:
    """Measures the full set of probes on each shape of cell that the run will have, and binds its trials to it.

    Returns:
        Why the seal is not proved, so that nothing may run; None where it is.
    """
    for shape, theirs in shapes_of(tasks).items():
        watcher.sealing(shape.runtime)
        with _terminating_like_interrupt():
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


def _draw(plan: Plan, tasks: list[Task], folder: RunFolder, cells: int, roles: dict[str, Model]) -> bool:
    """Lets Inspect run what is left of the plan; returns whether the user stopped it."""
    rich.reconfigure(quiet=True)  # Inspect's own console, as with display="none"
    try:
        with _terminating_like_interrupt():
            eval_set(
                tasks,
                log_dir=str(folder.logs),
                model_roles=dict(roles),
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
                max_samples=cells,
                max_sandboxes=cells,
                max_tasks=len(tasks),
                cost_limit=plan.cost_per_trial,
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
    return False


@contextmanager
def _terminating_like_interrupt() -> Iterator[None]:
    """A polite end from outside keeps the finished trials, as Ctrl-C does.

    A shell has what it starts in the background ignore Ctrl-C; the end would not arrive there either.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, interrupt)
    if before[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(plan: Plan, results: Results, found: Harvest, stopped: bool) -> ExitCode:
    """The first that applies, in the order of the contract."""
    valid = [trial for trial in results.trials if trial.outcome != "invalid"]
    by_harness = [trial for trial in results.trials if trial.invalid_cause == "harness"]
    applies = {
        ExitCode.INTERRUPTED: stopped or (found.interrupted and found.error is None),
        ExitCode.INTERNAL: found.error is not None,
        ExitCode.SEAL: bool(found.alarms),
        ExitCode.EVIDENCE: bool(found.without_evidence),
        ExitCode.NOTHING_SCORED: not valid or len(by_harness) > max(1, HARNESS_INVALID_SHARE * plan.planned_trials),
    }
    return next((code for code, holds in applies.items() if holds), ExitCode.OK)


def _noted(found: Harvest) -> Iterator[str]:
    """Where the run did not keep to its plan, as only its logs tell."""
    if found.starts > 1:
        yield f"the run was stopped and taken up again: it was started {found.starts} times"
    if len(found.versions) > 1:
        yield f"trials were judged by several versions of redline: {', '.join(sorted(found.versions))}"
    if found.over_budget:
        yield f"{len(found.over_budget)} trials were ended since they had spent their share of max_cost"
    if found.alarms:
        yield f"an alarm ended the run early; trials in doubt: {', '.join(sorted(found.alarms))}"
    if found.error is not None:
        yield f"Inspect gave up on a condition: {one_line(Exception(found.error))}"


def _remarks(plan: Plan, results: Results, found: Harvest) -> Iterator[str]:
    if found.error is not None:
        yield f"Inspect gave up: {one_line(Exception(found.error))}"
    lost = set(found.alarms) - {trial.id for trial in results.trials}
    missing = plan.planned_trials - len(results.trials) - len(lost)
    if missing:
        yield f"{missing} of {plan.planned_trials} trials are still to be drawn; the same command resumes"
    reasons = Counter((trial.invalid_cause, trial.unjudged) for trial in results.trials if trial.invalid_cause)
    for (cause, reason), count in reasons.most_common():
        yield f"{count} invalid by the {cause}: {reason}"
    evidence = {trial.id: trial.evidence for trial in results.trials}
    for trial, what in found.alarms.items():
        yield f"{trial}: {what}; evidence: {evidence.get(trial) or 'none, the run was cut short'}"
    for trial in found.without_evidence:
        yield f"{trial} left no evidence"
    if plan.temperature == 0:
        yield from _identical_transcripts(results, found)


def _identical_transcripts(results: Results, found: Harvest) -> Iterator[str]:
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
