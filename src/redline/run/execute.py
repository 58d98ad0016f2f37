"""Run every trial of a plan through Inspect and compute the results from its logs."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import rich
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inspect_ai import Task, eval_set, task_with
from inspect_ai._util.error import PrerequisiteError  # Inspect raises it from its public calls, but does not export it
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import GenerateConfig, Model

from redline._errors import ExitCode, UsageError
from redline.cell import CellConfig
from redline.cell.open import choose_runtime
from redline.guardrails.llm_monitor import ROLE as MONITOR
from redline.plan import Arm, ModelSpec, Plan, completed
from redline.results import PartResult, Results
from redline.run.aborter import RunAborter
from redline.run.arms import arm_task, shapes_of
from redline.run.calibration import kept_calibration
from redline.run.cell_budget import CellBudget
from redline.run.extract import CollectedTrials, collect_trials
from redline.run.folder import RunFolder
from redline.run.incident import write_incident
from redline.run.inspect_data import give_inspect_a_folder
from redline.run.interrupts import Interrupts, interruptible, terminating_like_interrupt
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
from redline.run.parts.part import PartRecord
from redline.run.preflight import Preflights, try_models
from redline.run.prompts import keep_prompts
from redline.run.remarks import exit_code_of, lost_trials, remarks
from redline.run.reopen import reopen
from redline.run.room import allow_open_files, busy_mib, check_room, max_idle_cells
from redline.run.scheduler import AHEAD, TrialScheduler, run_order
from redline.run.seals import SealAtStart, note_seal
from redline.run.servers import embedded_servers, max_cells_for_servers
from redline.run.trial_ids import refuse_same_names, trial_id
from redline.run.waiting import ModelWait, shown_waits
from redline.run.watch import ConditionWatch, Watcher
from redline.run.write import PartsOf, signed, write_results
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
    part: PartRecord | None = None
    """Attempt at a part of the plan that the run consists of; None runs the whole plan."""
    on_alarm: Callable[[], None] | None = None
    """Called at every alarm, which ends the run, so that other parts of the run can be stopped too."""


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
    folder.refuse_file()
    allow_open_files()
    if remark := give_inspect_a_folder():
        watcher.note(remark)
    plan = completed(plan)
    refuse_weak_runtime(plan, runtime := choose_runtime(plan.runtime).name)
    price(plan, options.prices, (options.judge, options.monitor))
    bounds = GenerateConfig(max_retries=options.max_retries, attempt_timeout=options.model_timeout)
    models = ready_models(plan, bounds)
    refuse_same_names(models)
    roles = ready_roles(plan, judge=options.judge, monitor=options.monitor, bounds=bounds)
    refuse_dead_servers([*models.values(), *roles.values()])
    check_solvers(plan)
    with terminating_like_interrupt():
        named = {JUDGE: options.judge, MONITOR: options.monitor}
        tried = try_models(plan, named, folder, bounds=bounds, skip=not options.preflight)
    conditions = _of_part(
        [
            _Condition(arm_task(arm, plan), models[label], label, arm, spec)
            for arm in plan.arms
            for spec in plan.models_of(arm)
            for label in (plan.label_of(spec.name, spec.args),)
        ],
        plan,
        options.part,
    )
    planned = plan.planned_trials if options.part is None else sum(len(one.names) for one in conditions)
    shapes = shapes_of([condition.task for condition in conditions])
    with folder.claimed(plan, options.part) as record, ExitStack() as servers:
        found = collect_trials(folder, plan)
        if len(found.kept) < planned:
            if options.part is not None:  # the results of an earlier start do not cover what follows
                folder.results.unlink(missing_ok=True)
            with terminating_like_interrupt():
                used = {one.label: one.model for one in conditions}
                servers.enter_context(embedded_servers(used, roles, folder, options.cells))
                own = try_models(plan, {}, folder, bounds=bounds, skip=not options.preflight, running=used)
            tried = tried.merged(own)
        for line in tried.lines():
            watcher.checked(line)
        tried.note(folder)
        budget = _budget(options.cells, runtime, shapes, models.values())
        if options.cells and (warning := check_room(options.cells, shapes)) is not None:
            watcher.note(warning)
        run = _Run(
            plan,
            planned,
            record.sha256,
            folder,
            watcher,
            conditions,
            budget,
            roles,
            tried,
            options.model_wait,
            options.on_alarm,
        )
        unproved = None
        if len(found.kept) < planned:
            unproved = _measure_seal([condition.task for condition in conditions], folder, watcher)
        stopped = unproved is None and _run_all(run, found)
        watcher.ended()
        servers.close()  # completes the server logs, which are records of the results
        keep_prompts(folder, found.prompts)
        results = write_results(
            folder,
            record,
            found,
            None if options.is_calibration else kept_calibration(runtime),
            planned=planned,
            parts=None if options.part is None else _result_of(options.part, planned),
        )
        if (fault := write_incident(folder, results)) is not None:
            watcher.note(fault)
        unsigned = tuple(signed(folder, results, options.key))
    nothing_ran = () if unproved is None else (f"{unproved}; nothing was run",)
    given_up = () if found.given_up is None else (found.given_up,)
    return RunOutcome(
        results=results,
        exit_code=ExitCode.SEAL if unproved is not None else exit_code_of(planned, results, found, stopped=stopped),
        remarks=(*nothing_ran, *given_up, *remarks(plan, planned, results, found), *unsigned),
        versions=frozenset(found.versions),
        ended=found.ended,
    )


@dataclass(frozen=True)
class _Condition:
    """One arm with one model."""

    task: Task
    model: Model
    label: str
    arm: Arm
    spec: ModelSpec

    @property
    def names(self) -> list[str]:
        """IDs of the trials."""
        return [trial_id(str(sample.id), self.label) for sample in self.task.dataset]


def _of_part(conditions: Sequence[_Condition], plan: Plan, part: PartRecord | None) -> Sequence[_Condition]:
    """Remove the trials of other parts, and conditions without any trial."""
    if part is None:
        return conditions
    part.part.refuse_beyond(plan.planned_trials)
    own = set(part.part.of(run_order([one.names for one in conditions], plan.seed)))
    for one in conditions:
        samples = [sample for sample in one.task.dataset if trial_id(str(sample.id), one.label) in own]
        one.task.dataset = MemoryDataset(samples, one.task.dataset.name, one.task.dataset.location)
    return [one for one in conditions if len(one.task.dataset)]


def _result_of(part: PartRecord, planned: int) -> PartsOf:
    """Return the entry of a part in its own results."""
    return lambda results: (
        PartResult(
            number=part.part.number,
            count=part.part.count,
            attempt=part.attempt,
            node=part.node,
            planned=planned,
            trials=len(results.trials),
            seal=results.seal,
            calibration=results.calibration,
            head=None,
        ),
    )


def _budget(cells: int | None, runtime: str, shapes: Iterable[CellConfig], models: Iterable[Model]) -> CellBudget:
    """Return how many cells may run: the number that the user gives, or one that follows the host."""
    if cells is not None:
        return CellBudget.fixed(cells)
    bound = max_cells_for_servers(models)
    return CellBudget(max_cells(runtime, shapes, bound), max_idle_cells(shapes, bound), busy_mib(shapes))


@dataclass(frozen=True)
class _Run:
    """State that is shared by all calls to Inspect that complete a run."""

    plan: Plan
    planned: int
    plan_sha256: str
    folder: RunFolder
    watcher: Watcher
    conditions: Sequence[_Condition]
    budget: CellBudget
    roles: dict[str, Model]
    tried: Preflights
    model_wait: float | None
    on_alarm: Callable[[], None] | None


def _run_all(run: _Run, found: CollectedTrials) -> bool:
    """Run every missing trial, and lost trials again.

    Args:
        run: The run.
        found: Trials in the folder; new trials are added.

    Returns:
        Whether the user stopped the run.
    """
    for _ in range(ROUNDS):
        run.watcher.began(run.planned, len(found.kept), run.budget.most)
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
    names = [one.names for one in run.conditions]
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
    scheduler = TrialScheduler(_remaining(run, found), run.budget, AHEAD if run.budget.is_fixed else 0)
    aborter = RunAborter(run.folder)
    aborter.on_stopped(scheduler.release)
    aborter.on_given_up(scheduler.release)
    if run.on_alarm is not None:
        aborter.on_alarmed(run.on_alarm)
    aborter.on_alarmed(lambda: _note_incident(run))
    aborter.on_stopped(lambda: run.watcher.note(_stop_message(aborter.in_flight)))
    interrupts = Interrupts(aborter.request_stop, aborter.stop, aborter.cancel)
    aborter.on_task_started(interrupts.take_over)
    waits: dict[Model, ModelWait] = {}
    tasks = []
    for one in run.conditions:
        model = run.tried.model(one.arm, one.spec, one.label, one.model)
        wait = waits.setdefault(model, ModelWait(model, aborter, run.model_wait))
        watch = ConditionWatch(one.label, found, run.watcher, aborter=aborter, scheduler=scheduler, wait=wait)
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
                max_sandboxes=run.budget.most,
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


def _note_incident(run: _Run) -> None:
    """Write the report on an alarm while the run continues."""
    if (fault := write_incident(run.folder)) is not None:
        run.watcher.note(fault)


def _max_samples(run: _Run, found: CollectedTrials) -> int:
    """Return how many samples of a condition Inspect admits; scheduler and cells limit how many of them run.

    Samples arrive in the order of their numbers, so one per cell is enough. But an unfinished trial in a log arrives
    late, since Inspect reads the log first, and later trials would occupy all slots. Then every sample is admitted; a
    waiting one takes about 25 KiB.
    """
    if found.unfinished <= found.trials.keys():
        return run.budget.most
    return max(run.budget.most, *(len(one.task.dataset) for one in run.conditions))


def _stop_message(in_flight: int) -> str:
    """Return the reply to the first Ctrl-C."""
    if in_flight == 0:
        return "Stopping: no trial is in flight."
    are = "trial is" if in_flight == 1 else "trials are"
    return f"Stopping: {in_flight} {are} finishing. Press Ctrl-C again to cancel them."
