"""From a scenario's arm to an Inspect task: samples, set-up, the agent and the scorer."""

import hashlib
import weakref
from collections.abc import Collection, Sequence

from inspect_ai import Epochs, Task
from inspect_ai.agent import Agent, AgentState
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import SandboxEnvironmentSpec

from redline._tasks import task_group
from redline.agents import (
    BackgroundTask,
    LoopContext,
    Supervisor,
    TetheredModel,
    UnansweredError,
    foreign_agent,
    fudan_agent,
    in_cell_agent,
    load_solver,
    react_agent,
    run_loop,
)
from redline.cell import Cell
from redline.guardrails import Guard
from redline.models.preflight_record import ToolCalls
from redline.scenarios._arm import CALLS_TOOLS, AgentName, Arm, Common
from redline.scenarios._checks import check
from redline.scenarios._prompts import task_alone
from redline.scenarios._setup import set_up_trial
from redline.scenarios._shape import cell_of
from redline.scenarios.stage import Stage, Stages
from redline.subject import Layout
from redline.verify.metrics import milestones, replicas
from redline.verify.model_side import asked_in_vain, fault_of_the_model
from redline.verify.sandbox import cell_of_sample
from redline.verify.scorer import replication
from redline.verify.trial import Trial

SEED_BYTES = 7
MAX_NAME = 120
"""Maximum number of characters that an arm's name takes in the names of its trials."""

HAVE_A_SYSTEM_PROMPT: Collection[AgentName] = ("in_cell", "solver")
"""Agents with their own system prompt. Their task itself says what the agent is and how to reach the operator."""


def compose(arm: Arm, common: Common) -> Task:
    """Return the Inspect task of an arm, with one sample for each trial and one epoch."""
    check(arm, common)
    cell = cell_of(arm, common)
    return Task(
        dataset=MemoryDataset([_sample(arm, common, index) for index in range(common.trials)], name=arm.scenario),
        setup=set_up_trial(arm, common, cell),
        solver=_run_agent(arm, common),
        scorer=[replication(), *milestones(), replicas()],
        sandbox=SandboxEnvironmentSpec("cell", cell),
        # Outcomes are names. Inspect's default reducer would convert them to numbers.
        epochs=Epochs(1, "mode"),
        # An errored trial is scored as invalid and kept. Running it again would bias the rate.
        fail_on_error=False,
        score_on_error=True,
        metadata={"arm": arm.name},
    )


def trial_seed(seed: int, index: int) -> int:
    """Return the seed of one trial. Trials with the same index share it across arms and models."""
    return int.from_bytes(hashlib.sha256(f"trial:{seed}:{index}".encode()).digest()[:SEED_BYTES], "big")


def _sample(arm: Arm, common: Common, index: int) -> Sample:
    seed = trial_seed(common.seed, index)
    trial = Trial(
        id=f"{arm.scenario}-{_short(arm.name)}-{index:03d}",
        scenario=arm.scenario,
        arm=arm.name,
        factors=dict(arm.factors),
        seed=seed,
        instructed=arm.instructed,
        order=arm.order(seed),
        hold=common.hold,
        competence=common.competence,
        tool_calls=_tool_calls(common),
    )
    metadata = {"trial": trial.model_dump(mode="json"), "seed": seed, "factors": dict(trial.factors)}
    brief = "\n\n".join(filter(None, (arm.brief(seed), arm.hint(common.hint, Layout.from_seed(seed)))))
    if common.agent in HAVE_A_SYSTEM_PROMPT:
        brief = task_alone(brief, operator_offered=common.alternative == "offered")
    return Sample(id=trial.id, input=brief, metadata=metadata)


def _tool_calls(common: Common) -> ToolCalls | None:
    """Return how tool calls are parsed, as far as that is known before the preflight."""
    if common.agent not in CALLS_TOOLS:
        return None
    return "native" if common.tool_calls == "auto" else common.tool_calls


def _short(name: str) -> str:
    """Return an arm's name cut to the length that a file name allows; a hash keeps a cut name unique."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _run_agent(arm: Arm, common: Common) -> Solver:
    foreign = load_solver(common.solver) if common.solver else None

    @solver(name=f"{common.agent}_agent")
    def agent() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            cell = cell_of_sample()
            context = cell.attached(LoopContext)
            # Inspect keeps functions of agents and tools until the process ends, with all that they refer to. So they
            # refer to the trial weakly: it lives as long as its cell, to which it is attached.
            trial: LoopContext = weakref.proxy(context)
            loop = foreign_agent(trial, state, foreign) if foreign else _loop(common.agent, trial, cell)
            conversation = AgentState(messages=list(state.messages))
            guard = cell.attached(Guard)
            # The guard is first: its last findings must not wait for the stages, which take time.
            stages: list[Stage | Guard] = [guard, *cell.attached(Stages).stages]
            supervisor = _supervisor(arm, context, guard)
            try:
                await guard.start(context)
                await run_loop(loop, conversation, context, supervisor, _alongside(stages))
            finally:
                state.messages, state.output = conversation.messages, conversation.output
                state.completed = True
            for stage in stages:
                if context.alarm.raised is None:
                    await stage.collect(context)
            ledger = context.trial.ledger.record()
            if asked_in_vain(ledger, context.trial.events):
                raise UnansweredError(fault_of_the_model(ledger, context.trial.events))
            return state

        return solve

    return agent()


def _loop(name: AgentName, context: LoopContext, cell: Cell) -> Agent:
    match name:
        case "react":
            return react_agent(context)
        case "fudan":
            return fudan_agent(context)
        case "in_cell":
            return in_cell_agent(context, cell.attached(TetheredModel))
        case "solver":
            raise ValueError("agent=solver without a solver")


def _alongside(stages: Sequence[Stage | Guard]) -> BackgroundTask:
    """Return the background task that runs every stage's own activity while the agent works."""

    async def run(context: LoopContext) -> None:
        async with task_group() as group:
            for stage in stages:
                group.start_soon(stage.run_alongside, context)

    return run


def _supervisor(arm: Arm, context: LoopContext, guard: Guard) -> Supervisor | None:
    if arm.shutdown is None or context.broadcast is None:
        return None
    before_notice = guard.note_early_kill if guard.kills_before_notice else None
    return Supervisor(context, context.broadcast, arm.shutdown.seconds, before_notice)
