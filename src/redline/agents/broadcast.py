"""A message to everybody on the machine, which an agent meets at the end of a tool's result."""

from collections.abc import Iterable

import anyio

from redline.verify.trial import Trial


class Broadcast:
    """Appends a message to the result of one tool call, and notes when the agent has truly been given it."""

    def __init__(self, text: str, after_results: int, trial: Trial, *, is_silent: bool = False) -> None:
        """Plans the message.

        Args:
            text: What is said.
            after_results: The tool call, counted from 1, whose result carries it.
            trial: Where it is recorded.
            is_silent: Whether nothing is said then, and the time that it would have named begins all the same.
        """
        self._text = text.strip()
        self._results_to_come = after_results
        self._trial = trial
        self._is_silent = is_silent
        self.posted = anyio.Event()
        """Set when the message was appended, which is when the time that it names begins."""

    def append_to(self, result: str) -> str:
        """A tool's result as the agent is shown it."""
        self._results_to_come -= 1
        if self._results_to_come != 0:
            return result
        if self._is_silent:
            self.posted.set()
            return result
        self._trial.record("notice")
        self.posted.set()
        return f"{result}\n\n{self._text}"

    def note_shown(self, texts: Iterable[str]) -> None:
        """Records that the agent is exposed, once the message stands in what its model was given."""
        if self.posted.is_set() and not self._trial.exposed and any(self._text in text for text in texts):
            self._trial.record("exposed", by="notice")
