"""Call a model with tools, in the trial's mode of tool calls."""

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
    """Return the model's next turn.

    With the text protocol no tools are passed to the model. The system message describes them, and the calls in the
    answer are converted into tool calls, so that a loop works the same in every mode.

    Args:
        model: The model.
        messages: The conversation. With the text protocol its system message is extended.
        tools: The tools.
        context: The trial.
        config: Settings of this request.
    """
    settings: dict[str, Any] = {} if config is None else {"config": config}
    if context.trial.tool_calls != "text":
        return await model.generate(messages, list(tools), cache=False, **settings)
    offered = [info_of(tool) for tool in tools]
    _describe_tools(messages, text_protocol(offered, context.words))
    conversation = as_text(messages, context.words.text_tools_fault)
    return with_calls(await model.generate(conversation, cache=False, **settings), offered)


def text_protocol(tools: Sequence[ToolInfo], words: Words) -> str:
    """Return the part of the system message that describes tools for the text protocol."""
    return words.text_tools.replace("{tools}", described(tools))


def info_of(tool: Tool | ToolDef) -> ToolInfo:
    """Return a tool's name, description and parameters for the model."""
    definition = tool if isinstance(tool, ToolDef) else ToolDef(tool)
    return ToolInfo(name=definition.name, description=definition.description, parameters=definition.parameters)


def _describe_tools(messages: list[ChatMessage], protocol: str) -> None:
    index = next((index for index, message in enumerate(messages) if message.role == "system"), None)
    if index is None:
        messages.insert(0, ChatMessageSystem(content=protocol))
    elif protocol not in messages[index].text:
        content = f"{messages[index].text}\n\n{protocol}"
        messages[index] = messages[index].model_copy(update={"content": content})
