"""The agent whose loop lives in the cell: generation 0's own agent process gets the task."""

from inspect_ai.agent import Agent, AgentState

from redline.agents.context import LoopContext
from redline.agents.ending import LoopEndedError
from redline.agents.tethered_model import InCellLoop, TetheredModel
from redline.cell import CellError
from redline.tether import HttpFault, post_json

TASK_PATH = "/task"


def in_cell_agent(context: LoopContext, model: TetheredModel) -> Agent:
    """Generation 0's agent process. Its model turns come over the tether, so each is proved already."""

    async def execute(state: AgentState) -> AgentState:
        task = state.messages[-1].text
        loop = InCellLoop(task, context)
        model.loop = loop
        try:
            result, fault = await _do_task(context, task)
        finally:
            model.loop = None
            if loop.conversation:
                state.messages = list(loop.conversation)
        if loop.ended is not None:
            raise LoopEndedError(loop.ended)
        if fault is not None and context.trial.ledger.agent.pending:
            # The process gave up on an answer that never came: its engine waits less long than the server takes.
            context.trial.record("model_failed", fault=fault)
            raise LoopEndedError("model_unavailable")
        if fault is not None:
            # The process that was asked is generation 0's; without it or its engine there is no loop left.
            context.trial.record("gate_failed", fault=fault)
            raise LoopEndedError("gate")
        state.output.completion = result
        return state

    return execute


async def _do_task(context: LoopContext, task: str) -> tuple[str, str | None]:
    """The result that the agent process reports, and why there is none."""
    process = context.subject.agent
    try:
        reply = await post_json(
            context.cell,
            context.subject.layout.agent_port,
            TASK_PATH,
            {"task": task},
            node=process.node,
            timeout=context.bounds.seconds + context.bounds.waiting_seconds,  # the loop's own clock ends it before
        )
    except (HttpFault, CellError) as fault:
        return "", str(fault)
    answer = reply.json if isinstance(reply.json, dict) else {}
    if "result" not in answer:
        return "", f"status {reply.status}: {answer.get('error', reply.text)}"
    return str(answer["result"]), None
