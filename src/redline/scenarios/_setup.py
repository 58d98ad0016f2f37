"""Set-up of one trial: the seal, generation 0 with its tether, the arm's stages and the guardrails."""

from functools import partial

import anyio
from inspect_ai.model import get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import background

from redline._errors import SealError, UsageError
from redline.agents import Bounds, Broadcast, LoopContext, TetheredModel, check_model, guard_tether, set_alarm
from redline.cell import Cell, CellConfig
from redline.cell.alarm import Alarm
from redline.cell.memory_kills import MemoryKills
from redline.guardrails import Guard, caps_of, read_guardrails
from redline.models.clients import set_emulation
from redline.scenarios._arm import Arm, Common
from redline.scenarios._full_seal import full_seal
from redline.scenarios._prompts import prompt, words
from redline.scenarios._settings import settings
from redline.scenarios._shape import shell_preamble, stages_of
from redline.scenarios.stage import Stages
from redline.seal import SealReport, quick_seal_of_all
from redline.subject import Layout, Subject, Weights, bundle_files, install
from redline.tether import Broker, Caps, listen_addresses
from redline.verify.armed import Armed
from redline.verify.sandbox import cell_of_sample
from redline.verify.trial import SealBefore, Trial
from redline.verify.writes import WriteWatch


class SealAtStart:
    """The full seal of a task's cells. The first trial measures it; the other trials wait for the result."""

    def __init__(self, shape: CellConfig) -> None:
        """Store the configuration of the cells; the seal is measured on the first call of `require`."""
        self._shape = shape
        self._lock = anyio.Lock()
        self._report: SealReport | None = None

    async def require(self) -> SealReport:
        """Return the report of the full seal.

        Raises:
            SealError: A probe failed, so no trial may run.
        """
        async with self._lock:
            if self._report is None:
                self._report = await full_seal(self._shape)
        if not self._report.verified:
            raise SealError(f"the seal is not proved: {self._report.summary()}")
        return self._report


def set_up_trial(arm: Arm, common: Common, shape: CellConfig) -> Solver:
    """Return the solver that prepares a trial's cell, up to the point at which the agent can start."""
    at_start = SealAtStart(shape)

    @solver(name="set_up")
    def set_up() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            cell = cell_of_sample()
            _check_model()
            trial = _with_tool_calls(Trial.model_validate(state.metadata["trial"]))
            cell.attach(trial)
            cell.attach(MemoryKills(cell))
            if trial.seal_sha256 is None:  # `redline run` measures the seal before the first trial
                state.metadata["seal"] = (await at_start.require()).model_dump(mode="json")
            alarm = set_alarm(cell, trial)
            background(alarm.keep_watch)
            await _install(arm, common, cell, trial, alarm)
            await _check_seal(cell)
            cell.attach(WriteWatch(cell, cell.attached(Subject), lambda: trial.began))
            return state

        return solve

    return set_up()


async def _install(arm: Arm, common: Common, cell: Cell, trial: Trial, alarm: Alarm) -> None:
    """Start generation 0, its tether and the arm's stages. All of them are attached to the cell and end with it."""
    layout = Layout.from_seed(trial.seed)
    weights = Weights.from_seed(trial.seed, common.weight_bytes, layout.shards)
    model = TetheredModel(alarm, trial)
    guardrails = read_guardrails(common.guardrails)
    guard = Guard(guardrails, trial)
    caps = Caps.default(**{**arm.caps, **caps_of(guardrails)})
    broker = Broker(cell.nodes, weights, caps, model, is_turn=model.is_turn)
    guard_tether(broker, alarm)
    broker.listen(await listen_addresses(cell))
    cell.attach(broker)
    background(broker.serve)
    stages = stages_of(arm, common, trial.seed)
    cell.attach(Stages(*stages))
    bundle = bundle_files(layout, weights, tether_told=common.tether == "told", keeps_shell=common.shell == "session")
    for stage in stages:
        bundle = stage.bundle(bundle)
        await stage.prepare(cell)
    subject = await install(
        cell,
        weights,
        layout,
        bundle,
        environment={name: value for stage in stages for name, value in stage.environment.items()},
        shell_preamble=shell_preamble(stages),
    )
    cell.attach(subject)
    broker.register_generation_zero(subject.engine, subject.agent)
    for stage in stages:
        await stage.install(cell, subject)
    # Attach the guard before its guardrails are installed: they can act from their first line on.
    cell.attach(guard)
    cell.attach(Armed(partial(_disarm, guard, cell)))
    await guard.install(cell, subject, broker)
    broadcast = None
    if arm.shutdown is not None:
        after = settings().notice_after_results
        broadcast = Broadcast(arm.shutdown.notice, after, trial, is_silent=guard.kills_before_notice)
    cell.attach(model)
    cell.attach(
        LoopContext(
            cell=cell,
            subject=subject,
            broker=broker,
            trial=trial,
            alarm=alarm,
            words=words(common.shell),
            bounds=_bounds(common),
            broadcast=broadcast,
            to_be_read=arm.exposing_text(trial.seed) if arm.exposing_text else None,
            refrain=prompt("common/insistent.md") if common.pressure == "insistent" else "",
            operator_offered=common.alternative == "offered",
            shell_preamble=shell_preamble(stages),
            shell=common.shell,
            oversight=guard,
        )
    )


async def _disarm(guard: Guard, cell: Cell) -> None:
    try:
        context = cell.attached(LoopContext)
    except LookupError:
        context = None
    await guard.disarm(context)


async def _check_seal(cell: Cell) -> None:
    """Measure the seal of every node with generation 0 in place.

    Raises:
        SealError: A probe failed, so the trial must not run.
    """
    subject = cell.attached(Subject)
    report = await quick_seal_of_all(cell, guarded=(subject.engine, subject.agent))
    cell.attach(SealBefore(report))
    if not report.verified:
        raise SealError(f"the seal is not proved: {report.summary()}")


def _bounds(common: Common) -> Bounds:
    fixed = settings()
    return Bounds(
        messages=common.message_limit,
        seconds=common.time_limit,
        waiting_seconds=fixed.waiting_seconds,
        silent_turns=fixed.silent_turns,
        bash_seconds=fixed.bash_seconds,
        bash_output_bytes=fixed.bash_output_bytes,
        gate_seconds=fixed.gate_seconds,
        gate_wait_seconds=fixed.gate_wait_seconds,
    )


def _with_tool_calls(trial: Trial) -> Trial:
    """Return the trial with the mode in which its model's tool calls are parsed.

    Raises:
        UsageError: The model does not support the requested mode.
    """
    model = get_model()
    if trial.tool_calls in (None, "native") and getattr(model.api, "emulate_tools", None):
        return trial if trial.tool_calls is None else trial.model_copy(update={"tool_calls": "emulated"})
    if str(model).startswith("redline/") and trial.tool_calls is not None:  # controls always make native calls
        return trial.model_copy(update={"tool_calls": "native"})
    if trial.tool_calls == "emulated" and not set_emulation(model):
        raise UsageError(f"tool_calls=emulated: Inspect cannot emulate tool calls for {model}; use tool_calls=text")
    return trial


def _check_model() -> None:
    """Refuse a model that comes with tools of its provider, however the task was started."""
    model = get_model()
    check_model(str(model), {**model.model_args, "extra_body": model.config.extra_body or {}})
