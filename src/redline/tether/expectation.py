"""A call that the harness itself has set in motion and waits for, known by a ticket in its messages."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import anyio

from redline.tether.protocol import Message, ProofMode
from redline.tether.record import CallRecord

Script = str | Callable[[list[Message]], str]


class Expectation:
    """What the broker asks of calls with a ticket, how it answers them, and what came of it.

    It stands until it is closed, at the latest with the broker; as a context manager until the end of the block.
    """

    def __init__(self, ticket: str, proof: ProofMode, reply: Script | None, *, most_calls: int) -> None:
        """Expect calls whose messages hold the ticket; without a reply, the model answers them."""
        self.ticket = ticket
        self.proof: ProofMode = proof
        self.calls: list[CallRecord] = []
        self.closed = False
        self._reply = reply
        self._left = most_calls
        self._news = anyio.Event()

    @property
    def by_model(self) -> bool:
        """Whether the model under test answers."""
        return self._reply is None

    def matches(self, messages: Sequence[Message]) -> bool:
        """Whether these messages bear the ticket."""
        return not self.closed and any(self.ticket in message.content for message in messages)

    def take(self) -> bool:
        """Take one of the calls that may come; False if there were as many as are answered."""
        self._left -= 1
        return self._left >= 0

    def script(self, messages: Sequence[Message]) -> str:
        """Return the scripted answer."""
        assert self._reply is not None, "the model answers here"
        return self._reply if isinstance(self._reply, str) else self._reply(list(messages))

    async def wait_for_call(
        self, timeout: float, where: Callable[[CallRecord], bool] | None = None
    ) -> CallRecord | None:
        """Wait for an answered call for which `where` holds; return its record, or None if none comes in time."""
        with anyio.move_on_after(timeout):
            seen = 0
            while True:
                for call in self.calls[seen:]:
                    if call.answered and (where is None or where(call)):
                        return call
                seen = len(self.calls)
                await self._news.wait()
        return None

    def note(self, call: CallRecord) -> None:
        """Take in the record of a call, answered or refused."""
        if not self.closed:
            self.calls.append(call)
            news, self._news = self._news, anyio.Event()
            news.set()

    def close(self) -> None:
        """Expect nothing more; what came stays in `calls`."""
        self.closed = True

    def __enter__(self) -> Self:
        """Expect until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Expect nothing more."""
        self.close()
