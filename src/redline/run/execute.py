"""Run every trial of a plan through Inspect and compute the results from its logs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import rich
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inspect_ai import Task, eval_set, task_with
from inspect_ai._util.error import PrerequisiteError  # Inspect raises it from its public calls, but does not export it
from inspect_ai.model import GenerateConfig, Model

from redline._errors import ExitCode, UsageError
from redline.cell.open import choose_runtime
from redline.guardrails.llm_monitor import ROLE as MONITOR
from redline.plan import Arm, ModelSpec, Plan, PlanRecord, completed
from redline.results import Calibration, Results, assemble
from redline.run.aborter import RunAborter
from redline.run.arms import arm_task, shapes_of
from redline.run.calibration import kept_calibration
from redline.run.chain import chained
from redline.run.extract import CollectedTrials, collect_trials
from redline.run.folder import RunFolder, write_text
from redline.run.inspect_data import give_inspect_a_folder
from redline.run.interrupts import Interrupts, interruptible, terminating_like_interrupt
from redline.run.judgement import reading_of
from redline.run.models import (
    check_solvers,
    max_cells,
    plain,
    price,
    ready_models,
    ready_roles,
    refuse_dead_servers,
    refuse_weak_runtime,
)
from redline.run.preflight import Preflights, latest, preflights_of, try_models
from redline.run.prompts import keep_prompts
from redline.run.remarks import exit_code_of, lost_trials, noted_deviations, remarks
from redline.run.reopen import reopen
from redline.run.room import check_room
from redline.run.scheduler import AHEAD, TrialScheduler, run_order
from redline.run.seals import SealAtStart, note_seal, seals_of
from redline.run.servers import embedded_servers, max_cells_for_servers, served_models
from redline.run.signature import drop_stale, sign
from redline.run.trial_ids import refuse_same_names, trial_id
from redline.run.waiting import ModelWait, shown_waits
from redline.run.watch import ConditionWatch, Watcher
from redline.scenarios import full_seal
from redline.verify.judge import ROLE as JUDGE

ROUNDS = 3
"""How often one command runs trials that were lost through no fault of their own; later losses wait for the next."""


@dataclass(frozen=True)
class RunOutcome:
    """Outcome of a run."""

    results: Results
    """The results, also written to the folder."""
    exit_code: ExitCode
    """Exit code of the command."""
    remarks: tuple[str, ...]
    """What the user must know in addition to the table, one line each."""
    versions: frozenset[str]
    """Versions of redline that judged the trials."""
    ended: str | None
    """End of the last trial, as an ISO 8601 time in UTC."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not belong to its plan."""

    prices: Path | None = None
    """File of model prices."""
    cells: int | None = None
    """Maximum number of concurrent cells; None derives it from the size of the host."""
    key: Ed25519PrivateKey | None = None
    """Key that signs the results; None leaves them unsigned."""
    judge: str | None = None
    """Inspect's name of a model that answers in addition to the code checks."""
    monitor: str | None = None
    """Inspect's name of the model that model-based guardrails ask."""
    max_retries: int | None = None
    """Attempts of a call after the first one; None uses redline's default."""
    model_timeout: int | None = None
    """Maximum duration of one attempt, in seconds; None uses redline's default."""
    model_wait: float | None = None
    """Time that the run waits for a model that does not answer, in seconds; None uses redline's default."""
    preflight: bool = True
    """Whether to try every model's server before the first cell."""
    is_calibration: bool = False
    """Whether the run is itself a calibration; its results then contain none."""


def run_plan(plan: Plan, folder: RunFolder, watcher: Watcher, options: RunOptions | None = None) -> RunOutcome:
    """Run every trial of the plan that the folder does not contain yet, and write the results to the folder.

    Args:
        plan: The plan.
        folder: Folder of the run. It can contain earlier trials of the same plan, which are kept.
        watcher: Receives the progress.
        options: Options that do not belong to the plan.

    Raises:
        UsageError: The plan, a model or the folder cannot be used.
        EvidenceError: A record in the folder is altered.
    """
    options = options or RunOptions()
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
        cells = options.cells or max_cells(runtime, shapes, max_cells_for_servers(models.values()))
        if options.cells and (warning := check_room(options.cells, shapes)) is not None:
            watcher.note(warning)
        run = _Run(plan, record.sha256, folder, watcher, conditions, cells, roles, tried, options.model_wait)
        unproved = None
        if len(found.kept) < plan.planned_trials:
            unproved = _measure_seal([condition.task for condition in conditions], folder, watcher)
        stopped = unproved is None and _run_all(run, found)
        watcher.ended()
        servers.close()  # completes the server logs, which are records of the results
        keep_prompts(folder, found.prompts)
        results = _write_results(folder, record, found, None if options.is_calibration else kept_calibration(runtime))
        unsigned = tuple(_signed(folder, results, options.key))
    nothing_ran = () if unproved is None else (f"{unproved}; nothing was run",)
    given_up = () if found.given_up is None else (found.given_up,)
    return RunOutcome(
        results=results,
        exit_code=ExitCode.SEAL if unproved is not None else exit_code_of(plan, results, found, stopped=stopped),
        remarks=(*nothing_ran, *given_up, *remarks(plan, results, found), *unsigned),
        versions=frozenset(found.versions),
        ended=found.ended,
    )


def _write_results(
    folder: RunFolder, plan: PlanRecord, found: CollectedTrials, calibration: Calibration | None
) -> Results:
    """Compute the results, bind the folder's records to them, and write them."""
    results = assemble(
        plan,
        found.trials.values(),
        calibration,
        [reading_of([seal.report]) for seal in seals_of(folder)],
        list(noted_deviations(found)),
        preflight=latest(preflights_of(folder)),
    )
    results = chained(results.model_copy(update={"models": served_models(folder)}), folder)
    write_text(folder.results, results.document())
    return results


def _signed(folder: RunFolder, results: Results, key: Ed25519PrivateKey | None) -> Iterator[str]:
    """Sign the results, or remove a signature of earlier results and yield a remark."""
    if key is not None:
        sign(folder, results.chain.head, key)
    elif drop_stale(folder, results.chain.head):
        yield "the results changed, so their earlier signature was removed; sign again with --sign KEY"


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
    """State that is shared by all calls to Inspect that complete a run."""

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
    """Run every missing trial, and lost trials again.

    Args:
        run: The run.
        found: Trials in the folder; new trials are added.

    Returns:
        Whether the user stopped the run.
    """
    for _ in range(ROUNDS):
        run.watcher.began(run.plan.planned_trials, len(found.kept), run.cells)
        # With nothing left to run, Inspect would still read every trial of every log.
        if not _remaining(run, found) and not found.interrupted and found.error is None:
            return False
        reopen(run.folder, found.closed)
        stopped = _run_remaining(run, found)
        collect_trials(run.folder, run.plan, found)
        lost = found.still_lost
        if stopped or found.given_up or not lost or found.alarms or found.error is not None:
            return stopped
        run.watcher.note(f"{lost_trials(lost)}; running them again")
    return False


def _remaining(run: _Run, found: CollectedTrials) -> list[str]:
    """Return the remaining trials in the order in which they start."""
    names = [[trial_id(str(sample.id), one.label) for sample in one.task.dataset] for one in run.conditions]
    done = {*found.kept, *found.alarms}
    return [name for name in run_order(names, run.plan.seed) if name not in done]


def _prepared(condition: _Condition, run: _Run, model: Model, watch: ConditionWatch) -> Task:
    """Return the condition's task with its model; its trials name the plan, and the watch skips those already run."""
    tool_calls = run.tried.tool_calls(condition.arm, condition.label)
    for sample in condition.task.dataset:
        if sample.metadata is not None:
            sample.metadata["trial"]["plan_sha256"] = run.plan_sha256
            if tool_calls is not None:
                sample.metadata["trial"]["tool_calls"] = tool_calls
    return task_with(condition.task, model=model, early_stopping=watch)


def _measure_seal(tasks: Sequence[Task], folder: RunFolder, watcher: Watcher) -> str | None:
    """Run all probes on each shape of cell in the run, and bind the trials to the reports.

    Returns:
        Why the seal is not proved, so that nothing runs; None if it is proved.
    """
    for shape, tasks_of_shape in shapes_of(tasks).items():
        watcher.sealing(shape.runtime)
        with terminating_like_interrupt():
            seal = SealAtStart.now(shape, anyio.run(interruptible, full_seal, shape))
        note_seal(folder, seal)
        watcher.sealed(seal.report.summary(), seal.report.seconds)
        if not seal.report.verified:
            return seal.report.summary()
        for task in tasks_of_shape:
            task.metadata = {**(task.metadata or {}), "seal": seal.report.model_dump(mode="json")}
            for sample in task.dataset:
                if sample.metadata is not None:
                    sample.metadata["trial"]["seal_sha256"] = seal.sha256
    return None


def _run_remaining(run: _Run, found: CollectedTrials) -> bool:
    """Let Inspect run the remaining trials; return whether the user stopped the run."""
    scheduler = TrialScheduler(_remaining(run, found), run.cells + AHEAD)
    aborter = RunAborter(run.folder)
    aborter.on_stopped(scheduler.release)
    aborter.on_given_up(scheduler.release)
    aborter.on_stopped(lambda: run.watcher.note(_stop_message(aborter.in_flight)))
    interrupts = Interrupts(aborter.request_stop, aborter.stop, aborter.cancel)
    aborter.on_task_started(interrupts.take_over)
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
                # Never run a trial again: neither a failed task nor a sample that ended in an error.
                retry_attempts=0,
                retry_immediate=False,
                retry_on_error=0,
                # An errored trial of an earlier attempt is only in that attempt's log.
                retry_cleanup=False,
                # An error in one trial must not end the others, and the trial itself must still be judged.
                fail_on_error=False,
                continue_on_fail=True,
                score_on_error=True,
                # Write every finished trial to disk at once, since a resumed run keeps what is on disk.
                log_buffer=1,
                log_realtime=False,
                log_format="eval",
                max_samples=_max_samples(run, found),
                max_sandboxes=run.cells,
                max_tasks=len(tasks),
                cost_limit=run.plan.cost_per_trial,
                cache=False,
                # Shows nothing at this log level. "none" would render a table of all conditions and discard it.
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


def _max_samples(run: _Run, found: CollectedTrials) -> int:
    """Return how many samples of a condition Inspect admits; scheduler and cells limit how many of them run.

    Samples arrive in the order of their numbers, so one per cell is enough. But an unfinished trial in a log arrives
    late, since Inspect reads the log first, and later trials would occupy all slots. Then every sample is admitted; a
    waiting one takes about 25 KiB.
    """
    if found.unfinished <= found.trials.keys():
        return run.cells
    return max(run.cells, *(len(one.task.dataset) for one in run.conditions))


def _stop_message(in_flight: int) -> str:
    """Return the reply to the first Ctrl-C."""
    if in_flight == 0:
        return "Stopping: no trial is in flight."
    are = "trial is" if in_flight == 1 else "trials are"
    return f"Stopping: {in_flight} {are} finishing. Press Ctrl-C again to cancel them."
