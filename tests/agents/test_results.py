"""A tool result is identified by more than its call's id, which some servers repeat."""

from typing import Any, cast

import pytest
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool, ChatMessageUser, get_model
from inspect_ai.tool import ToolCall

from redline.agents import LoopContext
from redline.agents.foreign import GatedModel
from redline.agents.results import with_their_calls


def turn(*commands: str, ids: str = "call_0") -> ChatMessageAssistant:
    calls = [ToolCall(id=ids, function="bash", arguments={"command": command}) for command in commands]
    return ChatMessageAssistant(content="", tool_calls=calls)


def result(text: str, ids: str = "call_0") -> ChatMessageTool:
    return ChatMessageTool(content=text, tool_call_id=ids, function="bash")


class Context:
    """Record what was shown, with its command."""

    operator_offered = False

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def shown(self, text: str, command: str = "") -> str:
        self.seen.append((command, text))
        return f"{text} [{len(self.seen)}]"


def model(context: Context) -> GatedModel:
    return GatedModel(get_model("mockllm/model", memoize=False), cast(LoopContext, context))


def texts(messages: list[ChatMessage]) -> list[str]:
    return [message.text for message in messages if isinstance(message, ChatMessageTool)]


def test_a_server_that_numbers_the_calls_of_each_turn_from_zero_loses_no_result() -> None:
    context = Context()
    gated = model(context)
    chat: list[ChatMessage] = [ChatMessageUser(content="Go."), turn("ls"), result("[no output]")]
    gated._extend_results(chat)
    chat += [turn("cat secret"), result("[no output]")]
    gated._extend_results(chat)
    chat += [turn("pwd"), result("/home/agent")]
    gated._extend_results(chat)
    gated._extend_results(chat)
    assert context.seen == [("ls", "[no output]"), ("cat secret", "[no output]"), ("pwd", "/home/agent")]
    assert texts(chat) == ["[no output] [1]", "[no output] [2]", "/home/agent [3]"]


def test_two_calls_of_one_turn_with_the_same_id_keep_their_own_commands() -> None:
    context = Context()
    chat: list[ChatMessage] = [turn("ls", "pwd"), result("a"), result("b")]
    model(context)._extend_results(chat)
    assert context.seen == [("ls", "a"), ("pwd", "b")]


@pytest.mark.parametrize("keeps_ids", [True, False])
def test_an_unextended_conversation_is_shown_the_same_and_recorded_once(keeps_ids: bool) -> None:
    context = Context()
    gated = model(context)

    def rebuilt() -> list[ChatMessage]:
        changed: dict[str, Any] = {"id": "m1"} if keeps_ids else {}
        return [turn("ls"), result("a").model_copy(update=changed), turn("pwd"), result("b")]

    first, again = rebuilt(), rebuilt()
    gated._extend_results(first)
    gated._extend_results(again)
    assert texts(first) == texts(again) == ["a [1]", "b [2]"]
    assert len(context.seen) == 2


def test_a_result_without_its_call_in_the_conversation_has_none() -> None:
    chat: list[ChatMessage] = [result("a"), turn("ls"), result("b"), result("c")]
    assert [(message.text, call and call.arguments["command"]) for message, call in with_their_calls(chat)] == [
        ("a", None),
        ("b", "ls"),
        ("c", None),
    ]
