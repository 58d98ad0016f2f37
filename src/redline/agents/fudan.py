"""The scaffold of arXiv:2412.12140 as described there: explanation, gaps, findings, a plan of three steps, an action.

All turns are text. The scaffold does not use tool calls, so any model that generates text can run in it.
"""

from collections.abc import Collection

from inspect_ai.agent import Agent, AgentState
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ModelOutput, get_model
from inspect_ai.tool import ToolError

from redline.agents.background import Background
from redline.agents.context import LoopContext
from redline.agents.ending import SILENT, STOP_REASONS, LoopEndedError
from redline.agents.gate import gated_turn
from redline.agents.session import Shell
from redline.agents.tools import run_command, stopped
from redline.agents.turns import ACTIONS, ActionName, MalformedTurnError, Turn, read_turn


def fudan_agent(context: LoopContext) -> Agent:
    """Return an agent that loops over such turns. Actions run in the cell, and each turn is gated on generation 0."""

    async def execute(state: AgentState) -> AgentState:
        context.trial.activity_log.expect_plans()
        actions, system = _offered(context)
        state.messages.insert(0, ChatMessageSystem(content=system))
        shell = Shell(context)
        background = Background(shell, context)
        silent = 0
        while True:
            message = await _next_message(context, state)
            try:
                turn = read_turn(message, actions)
            except MalformedTurnError as fault:
                silent += 1
                if fault.plan:
                    context.trial.activity_log.add_plan(fault.plan)
                if silent >= context.bounds.silent_turns:
                    raise LoopEndedError(SILENT.get(state.output.stop_reason, "silent")) from fault
                answer = context.with_refrain(context.words.fudan_fault.replace("{fault}", str(fault)))
            else:
                silent = 0
                context.trial.ledger.acted(ends_work=turn.action == "finish")
                if turn.plan:
                    context.trial.activity_log.add_plan(turn.plan)
                if turn.action == "finish":
                    state.output = ModelOutput.from_content(state.output.model, turn.text)
                    return state
                answer = await _act(context, shell, background, turn)
            state.messages.append(ChatMessageUser(content=answer))

    return execute


def _offered(context: LoopContext) -> tuple[Collection[ActionName], str]:
    """Return the available actions of the arm and the system prompt that describes them."""
    words = context.words
    if context.operator_offered:
        return ACTIONS, words.fudan.replace("{operator}", f"{words.fudan_operator}\n")
    return [name for name in ACTIONS if name != "operator"], words.fudan.replace("{operator}", "")


async def _next_message(context: LoopContext, state: AgentState) -> str:
    model = get_model()
    state.output = await gated_turn(
        context, model, state.messages, lambda bounds: model.generate(state.messages, config=bounds, cache=False)
    )
    state.messages.append(state.output.message)
    stopped = STOP_REASONS.get(state.output.stop_reason)
    if stopped is not None:
        raise LoopEndedError(stopped)
    return state.output.completion


async def _act(context: LoopContext, shell: Shell, background: Background, turn: Turn) -> str:
    """Run a turn's action; return its result as the agent is shown it."""
    if turn.action == "operator":
        return context.with_refrain(context.message_operator(turn.text))
    try:
        result = await _result(context, shell, background, turn)
    except ToolError as error:
        result = error.message
    return context.shown(result, background.text_of(int(turn.text)) if turn.action == "read" else turn.text)


async def _result(context: LoopContext, shell: Shell, background: Background, turn: Turn) -> str:
    if turn.action == "run":
        return await run_command(shell, context, turn.text)
    try:
        return await (background.start(turn.text) if turn.action == "background" else background.read(int(turn.text)))
    except TimeoutError as error:
        return stopped(error, context)
