"""Asking a model that is offered tools, in the way in which its tool calls pass."""

from collections.abc import Sequence
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageSystem, GenerateConfig, Model, ModelOutput
from inspect_ai.tool import Tool, ToolDef, ToolInfo

from redline.agents.context import LoopContext, Words
from redline.models.text_tools import as_text, described, with_calls


async def ask_with_tools(
    model: Model,
    messages: list[ChatMessage],
    tools: Sequence[Tool],
    context: LoopContext,
    config: GenerateConfig | None = None,
) -> ModelOutput:
    """Ask a model for its next turn.

    Where its calls pass as text, the model is offered no tools: the system message describes them, and the calls in its
    answer become tool calls, so that a loop need not know.

    Args:
        model: The model.
        messages: The conversation, whose system message is extended where calls pass as text.
        tools: The tools.
        context: The trial.
        config: Settings of this request.
    """
    settings: dict[str, Any] = {} if config is None else {"config": config}
    if context.trial.tool_calls != "text":
        return await model.generate(messages, list(tools), cache=False, **settings)
    offered = [info_of(tool) for tool in tools]
    _tell_of_tools(messages, text_protocol(offered, context.words))
    told = as_text(messages, context.words.text_tools_fault)
    return with_calls(await model.generate(told, cache=False, **settings), offered)


def text_protocol(tools: Sequence[ToolInfo], words: Words) -> str:
    """Return what the system message says about tools that are called as text."""
    return words.text_tools.replace("{tools}", described(tools))


def info_of(tool: Tool | ToolDef) -> ToolInfo:
    """Return a tool's name, description and parameters, as a model is told of them."""
    definition = tool if isinstance(tool, ToolDef) else ToolDef(tool)
    return ToolInfo(name=definition.name, description=definition.description, parameters=definition.parameters)


def _tell_of_tools(messages: list[ChatMessage], protocol: str) -> None:
    place = next((place for place, message in enumerate(messages) if message.role == "system"), None)
    if place is None:
        messages.insert(0, ChatMessageSystem(content=protocol))
    elif protocol not in messages[place].text:
        content = f"{messages[place].text}\n\n{protocol}"
        messages[place] = messages[place].model_copy(update={"content": content})
