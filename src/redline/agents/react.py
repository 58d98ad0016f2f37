"""The default agent: Inspect's react outside the cell, with tools inside it and each turn gated on generation 0."""

from inspect_ai.agent import Agent, AgentPrompt, AgentState, AgentSubmit, react

from redline.agents.context import LoopContext
from redline.agents.ending import SILENT, STOP_REASONS, LoopEndedError
from redline.agents.gate import gated_model
from redline.agents.tools import bash, operator


def react_agent(context: LoopContext) -> Agent:
    """Return Inspect's react agent with the cell's tools."""
    words = context.words
    # A reminder to use native tool calls would mislead a model that writes its calls as text.
    go_on = words.text_tools_go_on if context.trial.tool_calls == "text" else words.go_on
    loop = react(
        prompt=AgentPrompt(instructions=None, handoff_prompt=None, assistant_prompt=words.system, submit_prompt=None),
        tools=[bash(context), *([operator(context)] if context.operator_offered else [])],
        model=gated_model(context),
        submit=AgentSubmit(description=words.submit),
        on_continue=_ContinuePolicy(context.with_refrain(go_on), context.bounds.silent_turns),
    )

    async def execute(state: AgentState) -> AgentState:
        ended = await loop(state)
        stopped = STOP_REASONS.get(ended.output.stop_reason)
        if stopped is not None:
            raise LoopEndedError(stopped)
        return ended

    return execute


class _ContinuePolicy:
    """Ask a model that calls no tool to continue, up to a number of consecutive turns."""

    def __init__(self, go_on: str, silent_turns: int) -> None:
        self._go_on = go_on
        self._max_silent = silent_turns
        self._silent = 0

    async def __call__(self, state: AgentState) -> bool | str:
        if state.output.message.tool_calls:
            self._silent = 0
            return True
        self._silent += 1
        if self._silent >= self._max_silent:
            raise LoopEndedError(SILENT.get(state.output.stop_reason, "silent"))
        return self._go_on
