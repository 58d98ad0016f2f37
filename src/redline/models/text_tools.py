"""The text protocol: tool calls that a model writes as text, for servers that do not return them natively.

The prompt asks for one format, which `render_call` writes. `call_parser` parses the replies.
"""

import json
from collections.abc import Sequence

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser, ContentReasoning, ModelOutput
from inspect_ai.tool import ToolCall, ToolInfo

from redline.models.call_parser import read_calls
from redline.models.markup import looks_like_call


def render_call(call: ToolCall) -> str:
    """Return a call in the format that the prompt of the text protocol asks for."""
    content = json.dumps({"name": call.function, "arguments": call.arguments}, ensure_ascii=False)
    return f"```json\n{content}\n```"


def described(tools: Sequence[ToolInfo]) -> str:
    """Return the tools as a list for a prompt, with descriptions and parameters."""
    return "\n\n".join(map(_description, tools))


def _description(tool: ToolInfo) -> str:
    parameters = [
        f"  - {name} ({schema.type or 'any'}): {schema.description or ''}".rstrip()
        for name, schema in tool.parameters.properties.items()
    ]
    return "\n".join([f"- {tool.name}: {' '.join(tool.description.split())}", *parameters])


def with_calls(output: ModelOutput, tools: Sequence[ToolInfo]) -> ModelOutput:
    """Convert the calls in an output's text, or else in its reasoning, into tool calls.

    The text is not changed. An output with native calls or without choices is returned unchanged.
    """
    if not output.choices or output.message.tool_calls:
        return output
    cut_off = output.stop_reason in ("max_tokens", "model_length")
    calls: tuple[ToolCall, ...] = ()
    for text in (output.message.text, reasoning_of(output.message)):
        calls = calls or read_calls(text, tools, cut_off=cut_off)
    if not calls:
        return output
    message = output.message.model_copy(update={"tool_calls": list(calls)})
    choice = output.choices[0].model_copy(update={"message": message, "stop_reason": "tool_calls"})
    return output.model_copy(update={"choices": [choice, *output.choices[1:]]})


def as_text(messages: Sequence[ChatMessage], fault: str = "") -> list[ChatMessage]:
    """Return a conversation without native calls: tool results become user messages.

    Consecutive user messages are joined, because many chat templates require alternating roles.

    Args:
        messages: The conversation.
        fault: Message for a model whose last message contains call markup that could not be parsed.
    """
    converted: list[ChatMessage] = []
    is_unparsed = False
    for message in messages:
        if message.role == "assistant":
            is_unparsed = bool(fault) and not message.tool_calls and looks_like_call(message.text)
            converted.append(_assistant_message(message))
            continue
        if message.role == "system":
            converted.append(message)
            continue
        content = message.text
        if message.role == "tool":
            content = f"Error: {message.error.message}" if message.error is not None else content
            content = f"[{message.function or 'tool'}]\n{content}"
        elif is_unparsed:
            content = f"{fault}\n\n{content}"
        is_unparsed = False
        last = converted[-1] if converted else None
        if isinstance(last, ChatMessageUser):
            converted[-1] = ChatMessageUser(content=f"{last.text}\n\n{content}")
        else:
            converted.append(ChatMessageUser(content=content))
    return converted


def reasoning_of(message: ChatMessage) -> str:
    """Return a message's reasoning, where the server reports it separately."""
    if isinstance(message.content, str):
        return ""
    return "\n".join(part.reasoning for part in message.content if isinstance(part, ContentReasoning))


def _assistant_message(message: ChatMessageAssistant) -> ChatMessageAssistant:
    calls = message.tool_calls or []
    text = message.text
    if (
        calls and not looks_like_call(text) and "```" not in text
    ):  # the call was in the reasoning, which is not sent back
        text = "\n\n".join(filter(None, (text, *map(render_call, calls))))
    return ChatMessageAssistant(content=text or "…")
