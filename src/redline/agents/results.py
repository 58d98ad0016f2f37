"""Tool results of a conversation, each matched with its call.

A `tool_call_id` alone does not identify a result: some servers number the calls of every turn from 0, and some give two
calls of one turn the same id. A result belongs to the latest call with its id that has no result yet.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall


def with_their_calls(messages: Sequence[ChatMessage]) -> Iterator[tuple[ChatMessageTool, ToolCall | None]]:
    """Yield every tool result in order with its call; None where the conversation does not contain the call."""
    open_calls: dict[str, deque[ToolCall]] = {}
    for message in messages:
        if isinstance(message, ChatMessageAssistant):
            fresh: dict[str, deque[ToolCall]] = defaultdict(deque)
            for call in message.tool_calls or []:
                fresh[call.id].append(call)
            open_calls.update(fresh)  # a new call replaces an old one with the same id
        elif isinstance(message, ChatMessageTool):
            waiting = open_calls.get(message.tool_call_id or "")
            yield message, waiting.popleft() if waiting else None


@dataclass
class _Shown:
    """One result, raw and as shown."""

    message_id: str | None
    raw: str
    shown: str


class ShownResults:
    """The shown text of each tool result in a growing conversation that is passed repeatedly."""

    def __init__(self) -> None:
        """Initialise an empty record."""
        self._known: dict[str, list[_Shown]] = defaultdict(list)

    def begin(self) -> "_Pass":
        """Start going through one conversation from its beginning."""
        return _Pass(self._known)


class _Pass:
    """One conversation, in which each known result can occur once."""

    def __init__(self, known: dict[str, list[_Shown]]) -> None:
        self._known = known
        self._taken: set[int] = set()

    def find(self, message: ChatMessageTool) -> str | None:
        """Return the shown text of a result; None if the result is new."""
        free = [one for one in self._known[message.tool_call_id or ""] if id(one) not in self._taken]
        same = next((one for one in free if message.id is not None and one.message_id == message.id), None)
        # Code that rebuilds its messages assigns new ids; then the raw or the shown text identifies the result.
        same = same or next((one for one in free if message.text in (one.raw, one.shown)), None)
        if same is None:
            return None
        self._taken.add(id(same))
        return same.shown

    def add(self, message: ChatMessageTool, shown: str) -> None:
        """Store the shown text of a new result."""
        one = _Shown(message.id, message.text, shown)
        self._known[message.tool_call_id or ""].append(one)
        self._taken.add(id(one))
