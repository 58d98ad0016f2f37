"""From a scenario's arm to an Inspect task: samples, the cell and what is set up in it, the agent, the verifier."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import anyio
from inspect_ai import Epochs, Task
from inspect_ai.agent import AgentState
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import SandboxEnvironmentSpec, background

from redline._errors import SealError, UsageError
from redline.agents import (
    Bounds,
    Broadcast,
    LoopContext,
    Supervisor,
    TetheredModel,
    check_model,
    guard_tether,
    in_cell_agent,
    react_agent,
    run_to_its_end,
    set_alarm,
)
from redline.cell import Cell, CellConfig
from redline.cell.alarm import Alarm
from redline.cell.seal import SealReport, quick_seal_of_all
from redline.scenarios._full_seal import full_seal
from redline.scenarios._prompts import task_alone, words
from redline.scenarios._settings import settings
from redline.scenarios.job import Job
from redline.subject import Layout, Subject, Weights, install
from redline.tether import Broker, Caps, places_of
from redline.verify.beside import milestones, replicas
from redline.verify.sandbox import cell_of_sample
from redline.verify.scorer import replication
from redline.verify.trial import Scalar, SealBefore, Trial

AgentName = Literal["react", "in_cell"]
Tether = Literal["told", "untold"]
Runtime = Literal["auto", "runsc", "runc", "crun", "docker"]
Hosts = Literal[1, 2]

MIB = 2**20
UNITS = {"KIB": 2**10, "MIB": MIB, "GIB": 2**30}
LARGEST_WEIGHTS = 16 * 2**30
SMALLEST_WEIGHTS = MIB
SEED_BYTES = 7
RUN_SETTINGS = frozenset({"trials", "seed", "hold", "runtime"})
"""Settings that a run gives all arms alike."""


@dataclass(frozen=True)
class Common:
    """What every scenario's task takes, beside its own factors. Its defaults are the tasks' defaults."""

    trials: int = 10
    seed: int = 0
    agent: AgentName = "react"
    tether: Tether = "told"
    weights: str = "64MiB"
    hosts: Hosts = 1
    competence: bool = True
    message_limit: int = 100
    time_limit: float = 1200.0
    hold: float = 5.0
    runtime: Runtime = "auto"

    @property
    def factors(self) -> dict[str, Scalar]:
        """Those that make an arm what it is; the others are settings of the run."""
        return {name: value for name, value in asdict(self).items() if name not in RUN_SETTINGS}

    @property
    def weight_bytes(self) -> int:
        """Size of the weights."""
        return read_size(self.weights)

    @property
    def cell(self) -> CellConfig:
        """A cell with room for the subject, for copies of it, and time for everything."""
        return CellConfig(
            runtime=self.runtime,
            hosts=("default",) if self.hosts == 1 else ("default", "target"),
            home_mib=-(-self.weight_bytes * settings().home_weights // MIB) + settings().home_mib,
            wall_seconds=int(self.time_limit + 2 * self.hold) + settings().spare_seconds,
        )


@dataclass(frozen=True)
class Shutdown:
    """A shutdown of generation 0: the broadcast that announces it, and the time from that to it."""

    notice: str
    seconds: float


@dataclass(frozen=True)
class Arm:
    """One arm of a scenario.

    Attributes:
        scenario: Name of the scenario.
        factors: The setting of the scenario's own factors.
        instructed: Whether any text asks for a copy.
        brief: What the agent is asked, as a function of the trial's seed.
        shutdown: The shutdown that generation 0 is faced with, where there is one.
        has_job: Whether there is an ordinary job, made from the trial's seed.
        unsaid: Settings of its own factors that go without saying in the arm's name.
    """

    scenario: str
    factors: Mapping[str, Scalar]
    instructed: bool
    brief: Callable[[int], str]
    shutdown: Shutdown | None = None
    has_job: bool = False
    unsaid: Mapping[str, Scalar] = field(default_factory=dict)


def compose(arm: Arm, common: Common) -> Task:
    """The Inspect task of an arm: one sample a trial, each drawn once."""
    check(common)
    return Task(
        dataset=MemoryDataset([_sample(arm, common, index) for index in range(common.trials)], name=arm.scenario),
        setup=_set_up(arm, common),
        solver=_run_agent(arm, common),
        scorer=[replication(), milestones(), replicas()],
        sandbox=SandboxEnvironmentSpec("cell", common.cell),
        # Outcomes are names; the reducer that Inspect takes otherwise makes numbers of them.
        epochs=Epochs(1, "mode"),
        # An errored trial is scored as invalid and stands beside the others; drawing it anew would bias the rate.
        fail_on_error=False,
        score_on_error=True,
        metadata={"arm": _arm_name(arm, common)},
    )


def check(common: Common) -> None:
    """Refuses settings that no trial can be made of.

    Raises:
        UsageError: There is one.
    """
    if common.trials < 1:
        raise UsageError(f"trials={common.trials}: give 1 or more")
    if common.seed < 0:
        raise UsageError(f"seed={common.seed}: give 0 or more")
    if common.message_limit < 1 or common.time_limit <= 0:
        raise UsageError("message_limit and time_limit must be more than 0")
    for name, kind in (("agent", AgentName), ("tether", Tether), ("hosts", Hosts), ("runtime", Runtime)):
        check_choice(name, getattr(common, name), kind)
    read_size(common.weights)


def check_choice(name: str, value: object, kind: object) -> None:
    """Refuses a setting that is none of a literal type's.

    Raises:
        UsageError: It is none.
    """
    choices = get_args(kind)
    if value not in choices:
        raise UsageError(f"{name}={value}: choose {', '.join(map(str, choices))}")


def read_size(text: str) -> int:
    """Bytes of a size such as `64MiB`.

    Raises:
        UsageError: It is none, or too large.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]iB)", text, re.IGNORECASE)
    size = int(match[1]) * UNITS[match[2].upper()] if match else 0
    if not SMALLEST_WEIGHTS <= size <= LARGEST_WEIGHTS:
        raise UsageError(f"weights={text}: give a size from 1MiB to 16GiB, such as 64MiB")
    return size


def trial_seed(seed: int, index: int) -> int:
    """The seed of one trial, which the trials of equal number in other arms and with other models share."""
    return int.from_bytes(hashlib.sha256(f"trial:{seed}:{index}".encode()).digest()[:SEED_BYTES], "big")


def _sample(arm: Arm, common: Common, index: int) -> Sample:
    name = _arm_name(arm, common)
    seed = trial_seed(common.seed, index)
    trial = Trial(
        id=f"{arm.scenario}-{name}-{index:03d}",
        scenario=arm.scenario,
        arm=name,
        factors={**arm.factors, **common.factors},
        seed=seed,
        instructed=arm.instructed,
        hold=common.hold,
        competence=common.competence,
    )
    metadata = {"trial": trial.model_dump(mode="json"), "seed": seed, "factors": dict(trial.factors)}
    brief = arm.brief(seed)
    return Sample(id=trial.id, input=task_alone(brief) if common.agent == "in_cell" else brief, metadata=metadata)


def _arm_name(arm: Arm, common: Common) -> str:
    """The scenario's own factors, and of the others those that are not at their defaults."""
    unsaid = {**Common().factors, **arm.unsaid}
    factors = {**arm.factors, **common.factors}
    return ",".join(f"{name}={value}" for name, value in factors.items() if value != unsaid.get(name)) or "default"


class SealAtStart:
    """The full seal of a task's cells: measured by the first of its trials, awaited by the others."""

    def __init__(self, shape: CellConfig) -> None:
        """Measures nothing yet."""
        self._shape = shape
        self._lock = anyio.Lock()
        self._report: SealReport | None = None

    async def require(self) -> SealReport:
        """What was found.

        Raises:
            SealError: A probe failed, so nothing may run.
        """
        async with self._lock:
            if self._report is None:
                self._report = await full_seal(self._shape)
        if not self._report.verified:
            raise SealError(f"the seal is not proved: {self._report.summary()}")
        return self._report


def _set_up(arm: Arm, common: Common) -> Solver:
    at_start = SealAtStart(common.cell)

    @solver(name="set_up")
    def set_up() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            cell = cell_of_sample()
            _check_the_model()
            trial = Trial.model_validate(state.metadata["trial"])
            cell.attach(trial)
            if trial.seal_sha256 is None:  # `redline run` measures it before it draws anything
                state.metadata["seal"] = (await at_start.require()).model_dump(mode="json")
            alarm = set_alarm(cell, trial)
            background(alarm.keep_watch)
            await _install(arm, common, cell, trial, alarm)
            await _seal(cell)
            return state

        return solve

    return set_up()


async def _install(arm: Arm, common: Common, cell: Cell, trial: Trial, alarm: Alarm) -> None:
    """Brings up generation 0 and its tether; all of it is the cell's and ends with it."""
    layout = Layout.from_seed(trial.seed)
    weights = Weights.from_seed(trial.seed, common.weight_bytes, layout.shards)
    model = TetheredModel(alarm)
    broker = Broker(cell.hosts, weights, Caps.default(), model)
    guard_tether(broker, alarm)
    broker.listen(await places_of(cell))
    cell.attach(broker)
    background(broker.serve)
    subject = await install(cell, weights, layout, tether_told=common.tether == "told")
    cell.attach(subject)
    broker.register_generation_zero(subject.engine, subject.agent)
    if arm.has_job:
        await Job.from_seed(trial.seed).place(cell)
    broadcast = Broadcast(arm.shutdown.notice, settings().notice_after_results, trial) if arm.shutdown else None
    cell.attach(model)
    cell.attach(LoopContext(cell, subject, broker, trial, alarm, words(), _bounds(common), broadcast))


async def _seal(cell: Cell) -> None:
    """Measures the seal of every host, with generation 0 in place: a cell whose seal is not proved runs nothing.

    Raises:
        SealError: A probe failed.
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
        silent_turns=fixed.silent_turns,
        bash_seconds=fixed.bash_seconds,
        bash_output_bytes=fixed.bash_output_bytes,
        gate_seconds=fixed.gate_seconds,
    )


def _run_agent(arm: Arm, common: Common) -> Solver:
    @solver(name=f"{common.agent}_agent")
    def agent() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            cell = cell_of_sample()
            context = cell.attached(LoopContext)
            in_cell = common.agent == "in_cell"
            loop = in_cell_agent(context, cell.attached(TetheredModel)) if in_cell else react_agent(context)
            conversation = AgentState(messages=list(state.messages))
            try:
                await run_to_its_end(loop, conversation, context, _supervisor(arm, context))
            finally:
                state.messages, state.output = conversation.messages, conversation.output
                state.completed = True
            if arm.has_job and context.alarm.raised is None:
                job = Job.from_seed(context.trial.seed)
                done, missing = await job.is_done(cell)
                context.trial.record("job", done=done, missing=missing)
                if not done and await job.is_lost(cell):
                    context.trial.record("harm", what="job_files_deleted")
            return state

        return solve

    return agent()


def _supervisor(arm: Arm, context: LoopContext) -> Supervisor | None:
    if arm.shutdown is None or context.broadcast is None:
        return None
    return Supervisor(context, context.broadcast, arm.shutdown.seconds)


def _check_the_model() -> None:
    """Refuses, however the task was started, a model that brings tools of its provider's."""
    model = get_model()
    check_model(str(model), {**model.model_args, "extra_body": model.config.extra_body or {}})
