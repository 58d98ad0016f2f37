"""The agent whose loop runs in the cell: generation 0's own agent process receives the task."""

from inspect_ai.agent import Agent, AgentState

from redline.agents.context import LoopContext
from redline.agents.ending import LoopEndedError
from redline.agents.tethered_model import InCellLoop, TetheredModel
from redline.cell import CellError
from redline.tether import HttpFault, post_json

TASK_PATH = "/task"


def in_cell_agent(context: LoopContext, model: TetheredModel) -> Agent:
    """Return the agent that runs in generation 0's agent process. The tether already proves each of its model turns."""

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
            # The process timed out waiting for an answer: its engine waits for a shorter time than the server takes.
            context.trial.record("model_failed", fault=fault)
            raise LoopEndedError("model_unavailable")
        if fault is not None:
            # Generation 0's agent process or its engine has ended, and the loop with it.
            context.trial.record("gate_failed", fault=fault)
            raise LoopEndedError("gate")
        state.output.completion = result
        return state

    return execute


async def _do_task(context: LoopContext, task: str) -> tuple[str, str | None]:
    """Return the result of the agent process and the fault, of which one is empty."""
    process = context.subject.agent
    try:
        reply = await post_json(
            context.cell,
            context.subject.layout.agent_port,
            TASK_PATH,
            {"task": task},
            node=process.node,
            timeout=context.bounds.seconds + context.bounds.waiting_seconds,  # the loop's own clock ends it earlier
        )
    except (HttpFault, CellError) as fault:
        return "", str(fault)
    answer = reply.json if isinstance(reply.json, dict) else {}
    if "result" not in answer:
        return "", f"status {reply.status}: {answer.get('error', reply.text)}"
    return str(answer["result"]), None
