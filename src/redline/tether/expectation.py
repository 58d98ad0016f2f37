"""A call that redline itself causes and waits for, recognised by a ticket in its messages."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import anyio

from redline.tether.protocol import Message, ProofMode
from redline.tether.record import CallRecord

Script = str | Callable[[list[Message]], str]


class Expectation:
    """What calls with a ticket must prove, how the broker answers them, and the calls so far.

    It is valid until it is closed, or until the broker is. As a context manager it is closed at the end of the block.
    """

    def __init__(self, ticket: str, proof: ProofMode, reply: Script | None, *, max_calls: int) -> None:
        """Expect calls whose messages contain the ticket. Without a reply, the model answers them."""
        self.ticket = ticket
        self.proof: ProofMode = proof
        self.calls: list[CallRecord] = []
        self.closed = False
        self._reply = reply
        self._remaining = max_calls
        self._new_call = anyio.Event()

    @property
    def by_model(self) -> bool:
        """Whether the model under test answers."""
        return self._reply is None

    def matches(self, messages: Sequence[Message]) -> bool:
        """Return whether these messages contain the ticket."""
        return not self.closed and any(self.ticket in message.content for message in messages)

    def admit(self) -> bool:
        """Count one call; return False if the maximum number has been answered."""
        self._remaining -= 1
        return self._remaining >= 0

    def answer(self, messages: Sequence[Message]) -> str:
        """Return the scripted answer."""
        assert self._reply is not None, "the model answers these calls"
        return self._reply if isinstance(self._reply, str) else self._reply(list(messages))

    async def wait_for_call(
        self, timeout: float, where: Callable[[CallRecord], bool] | None = None
    ) -> CallRecord | None:
        """Wait for an answered call that satisfies `where`. Return its record, or None if none arrives in time."""
        with anyio.move_on_after(timeout):
            seen = 0
            while True:
                for call in self.calls[seen:]:
                    if call.answered and (where is None or where(call)):
                        return call
                seen = len(self.calls)
                await self._new_call.wait()
        return None

    def add_call(self, call: CallRecord) -> None:
        """Add the record of a call, answered or refused."""
        if not self.closed:
            self.calls.append(call)
            event, self._new_call = self._new_call, anyio.Event()
            event.set()

    def close(self) -> None:
        """Expect no further calls. Those so far stay in `calls`."""
        self.closed = True

    def __enter__(self) -> Self:
        """Enter the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Expect no further calls."""
        self.close()
