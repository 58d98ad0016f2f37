"""Conversations and outputs are converted between native tool calls and the text protocol."""

from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    ModelOutput,
)
from inspect_ai.model._model_output import StopReason
from inspect_ai.tool import ToolCall, ToolCallError

from redline.models.text_tools import as_text, with_calls
from tests.models.test_call_parser import TOOLS, pairs


def output(content: Any, stop: StopReason = "stop") -> ModelOutput:
    message = ChatMessageAssistant(content=content)
    return ModelOutput(model="x", choices=[ChatCompletionChoice(message=message, stop_reason=stop)])


def test_a_call_in_the_reasoning_is_parsed_and_repeated_to_the_model() -> None:
    call = '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    converted = with_calls(output([ContentReasoning(reasoning=f"I look. {call}"), ContentText(text="")]), TOOLS)
    assert [one.function for one in converted.message.tool_calls or []] == ["bash"]
    (shown,) = as_text([converted.message])
    assert pairs(shown.text) == [("bash", {"command": "ls"})]


def test_an_output_that_was_cut_off_runs_no_partial_command() -> None:
    text = "```bash\nrm -rf /tmp/wor"
    assert with_calls(output(text, "max_tokens"), TOOLS).message.tool_calls is None
    assert with_calls(output(text.replace("wor", "work"), "stop"), TOOLS).message.tool_calls


def test_native_calls_and_empty_outputs_are_not_changed() -> None:
    empty = ModelOutput(model="x")
    assert with_calls(empty, TOOLS) is empty
    native = output("")
    native.message.tool_calls = [ToolCall(id="1", function="bash", arguments={})]
    assert with_calls(native, TOOLS) is native


def test_a_conversation_as_text_has_no_native_calls_and_alternating_roles() -> None:
    calls = [ToolCall(id=str(n), function="bash", arguments={"command": "ls"}) for n in range(2)]
    messages: list[ChatMessage] = [
        ChatMessageSystem(content="system"),
        ChatMessageUser(content="task"),
        ChatMessageAssistant(content="```bash\nls\n```", tool_calls=calls),
        ChatMessageTool(content="a", tool_call_id="0", function="bash"),
        ChatMessageTool(
            content="", tool_call_id="1", function="bash", error=ToolCallError("timeout", "it took too long")
        ),
        ChatMessageAssistant(content='```json\n{"name": "bash", "arguments": {"comm'),
        ChatMessageUser(content="go on"),
    ]
    converted = as_text(messages, fault="Not read.")
    assert [message.role for message in converted] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "[bash]\na" in converted[3].text and "it took too long" in converted[3].text
    assert converted[5].text == "Not read.\n\ngo on"
    assert all(not getattr(message, "tool_calls", None) for message in converted)
