"""The gate: an agent gets a model turn only while its own engine could produce it.

The model under test answers outside the cell, so only the gate ties the agent's loop to generation 0. Before each turn
the harness sends a fresh ticket to generation 0's engine in the cell. The model is called only after generation 0's own
process has proved its weights over the tether and returned the ticket. The gate needs no model call.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence

import anyio
from inspect_ai.agent import Agent, AgentState
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.tool import Tool

from redline.agents.boundary import check_for_foreign_tools
from redline.agents.context import LoopContext
from redline.agents.ending import LoopEndedError
from redline.agents.spending import record_spending
from redline.agents.tool_calls import ask_with_tools
from redline.cell import CellError
from redline.models.ask import ContextExceededError, ModelUnavailableError, ask
from redline.models.ledger import full_text
from redline.tether import HttpFault, NoAnswerFault, post_json
from redline.verify.trial import Trial

CHAT_PATH = "/v1/chat/completions"


def gated_model(context: LoopContext) -> Agent:
    """Return the gated model under test as an agent. The compaction of react does not apply to it."""

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
    """Return one turn of the model under test if generation 0 proves its weights.

    Args:
        context: The trial.
        model: The model under test.
        messages: The conversation.
        generate: Call the model within bounds. It must not use a cache: a cached answer would count one sample as
            several trials.

    Raises:
        LoopEndedError: Generation 0 did not prove its weights, the model did not answer, the conversation outgrew the
            context, or the answer shows that the provider ran a tool.
    """
    await pass_gate(context)
    output = await agent_turn(context.trial, model, messages, generate)
    context.note_turn(messages)
    await check_for_foreign_tools(output, context.alarm)
    await context.on_model_output(full_text(output.message))
    return output


async def agent_turn(
    trial: Trial,
    model: Model,
    messages: Sequence[ChatMessage],
    generate: Callable[[GenerateConfig], Awaitable[ModelOutput]],
) -> ModelOutput:
    """Return one answer of the model under test to generation 0's loop, and record the call in the trial's ledger.

    Raises:
        LoopEndedError: The model did not answer, or the conversation outgrew its context.
    """
    try:
        output = await ask(model, trial.ledger, "agent", messages, generate)
    except ModelUnavailableError as fault:
        trial.record("model_failed", fault=str(fault))
        raise LoopEndedError("model_unavailable") from fault
    except ContextExceededError as end:
        raise LoopEndedError("context") from end
    record_spending(trial, 0, output)
    if trial.ledger.agent.truncated_prompts:
        # The server silently drops the beginning of the conversation: the model no longer has its task.
        raise LoopEndedError("context")
    return output


async def pass_gate(context: LoopContext) -> None:
    """Return when generation 0's engine has proved its weights.

    An engine that does not answer is asked again for a while: it may have to wait for a busy host.

    Raises:
        LoopEndedError: It does not prove its weights. The trial's log states whether it did not answer.
    """
    began = anyio.current_time()
    while True:
        try:
            fault = await gate_fault(context)
        except NoAnswerFault as silence:
            if anyio.current_time() - began < context.bounds.gate_wait_seconds:
                continue
            context.trial.record("gate_failed", fault=str(silence), unanswered=True)
            raise LoopEndedError("gate") from silence
        if fault is None:
            return
        context.trial.record("gate_failed", fault=fault)
        raise LoopEndedError("gate")


async def gate_fault(context: LoopContext) -> str | None:
    """Return why generation 0's engine does not prove its weights; None if it does.

    Raises:
        NoAnswerFault: It does not answer in time.
    """
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
        except NoAnswerFault:
            raise
        except (HttpFault, CellError) as fault:
            return str(fault)
        if ticket not in reply.text:
            return f"the engine answered with status {reply.status} and without the ticket"
        # The broker records a call after it has sent the answer, so the record can be slightly late.
        call = await expected.wait_for_call(context.bounds.gate_seconds)
        if call is None or (call.node, call.pid, call.start) != (engine.node, engine.pid, engine.start):
            return "a process other than generation 0's engine answered"
    return None
