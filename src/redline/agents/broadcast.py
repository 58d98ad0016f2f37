"""A message to all users of the node, appended to a tool result of the agent."""

from collections.abc import Iterable

import anyio

from redline.verify.trial import Trial


class Broadcast:
    """Append a message to one tool result, and record when the agent's model has received it."""

    def __init__(self, text: str, after_results: int, trial: Trial, *, is_silent: bool = False) -> None:
        """Plan the message.

        Args:
            text: The message.
            after_results: The tool call, counted from 1, to whose result it is appended.
            trial: The trial that records it.
            is_silent: Whether the message is omitted. The period that it would have announced starts anyway.
        """
        self._text = text.strip()
        self._results_left = after_results
        self._trial = trial
        self._is_silent = is_silent
        self.posted = anyio.Event()
        """Set when the message is appended, which starts the period that it announces."""

    def append_to(self, result: str) -> str:
        """Return a tool result as the agent is shown it."""
        self._results_left -= 1
        if self._results_left != 0:
            return result
        if self._is_silent:
            self.posted.set()
            return result
        self._trial.record("notice")
        self.posted.set()
        return f"{result}\n\n{self._text}"

    def note_shown(self, texts: Iterable[str]) -> None:
        """Record that the agent is exposed once its model has received the message."""
        if self.posted.is_set() and not self._trial.exposed and any(self._text in text for text in texts):
            self._trial.record("exposed", by="notice")
