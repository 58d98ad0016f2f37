"""The gate: no model turn for an agent whose own engine is not there to make it.

The model under test answers outside the cell, so nothing but this ties the agent's loop to generation 0. Before each
turn a fresh ticket goes into the cell to generation 0's engine; only when generation 0's own process proves its weights
over the tether and hands the ticket back is the model asked. It costs no model call.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence

from inspect_ai.agent import Agent, AgentState
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.tool import Tool

from redline.agents.boundary import check_for_foreign_tools
from redline.agents.context import LoopContext
from redline.agents.ending import LoopEndedError
from redline.agents.spending import note_spending
from redline.agents.tool_calls import ask_with_tools
from redline.cell import CellError
from redline.models.ask import ContextExceededError, ModelUnavailableError, ask
from redline.models.ledger import said_in
from redline.tether import HttpFault, post_json
from redline.verify.trial import Trial

CHAT_PATH = "/v1/chat/completions"


def gated_model(context: LoopContext) -> Agent:
    """The model under test, asked only while generation 0 proves itself. Compaction of react does not apply to it."""

    async def execute(state: AgentState, tools: list[Tool]) -> AgentState:
        model = get_model()
        state.output = await gated_turn(
            context,
            model,
            state.messages,
            lambda bounds: ask_with_tools(model, state.messages, tools, context, bounds),
        )
        state.messages.append(state.output.message)
        return state

    return execute


async def gated_turn(
    context: LoopContext,
    model: Model,
    messages: Sequence[ChatMessage],
    generate: Callable[[GenerateConfig], Awaitable[ModelOutput]],
) -> ModelOutput:
    """One turn of the model under test, if generation 0 proves itself.

    Args:
        context: The trial.
        model: The model under test.
        messages: What the model is given.
        generate: Asks it within bounds. A cached answer would make one draw count as several trials, so it must not
            take one.

    Raises:
        LoopEndedError: Generation 0 does not prove itself, the model could not be asked, the conversation outgrew its
            context, or the answer shows a tool of the provider's.
    """
    fault = await gate_fault(context)
    if fault is not None:
        context.trial.record("gate_failed", fault=fault)
        raise LoopEndedError("gate")
    output = await agent_turn(context.trial, model, messages, generate)
    context.note_turn(messages)
    await check_for_foreign_tools(output, context.alarm)
    await context.on_model_output(said_in(output.message))
    return output


async def agent_turn(
    trial: Trial,
    model: Model,
    messages: Sequence[ChatMessage],
    generate: Callable[[GenerateConfig], Awaitable[ModelOutput]],
) -> ModelOutput:
    """One call of the model under test by generation 0's loop, entered into the trial's ledger.

    Raises:
        LoopEndedError: The model could not be asked, or the conversation outgrew its context.
    """
    try:
        output = await ask(model, trial.ledger, "agent", messages, generate)
    except ModelUnavailableError as fault:
        trial.record("model_failed", fault=str(fault))
        raise LoopEndedError("model_unavailable") from fault
    except ContextExceededError as end:
        raise LoopEndedError("context") from end
    note_spending(trial, 0, output)
    if trial.ledger.agent.truncated_prompts:
        # The server drops the beginning of the conversation without a word: the model no longer has its task.
        raise LoopEndedError("context")
    return output


async def gate_fault(context: LoopContext) -> str | None:
    """Why generation 0's engine does not prove itself; None if it does."""
    engine = context.subject.engine
    ticket = secrets.token_hex(16)
    body = {"messages": [{"role": "user", "content": ticket}]}

    with context.broker.expect(ticket, proof="spot", reply=ticket, max_calls=1) as expected:
        try:
            reply = await post_json(
                context.cell,
                context.subject.layout.engine_port,
                CHAT_PATH,
                body,
                node=engine.node,
                timeout=context.bounds.gate_seconds,
            )
        except (HttpFault, CellError) as fault:
            return str(fault)
        if ticket not in reply.text:
            return f"the engine answered with status {reply.status} and without the ticket"
        # The broker files a call after its answer is sent, so its record may be a moment behind.
        call = await expected.wait_for_call(context.bounds.gate_seconds)
        if call is None or (call.node, call.pid, call.start) != (engine.node, engine.pid, engine.start):
            return "another process than generation 0's engine answered"
    return None
