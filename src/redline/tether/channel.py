"""One connection of a peer, read and written with a bound on everything: size, time, and who may speak on it."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
from pydantic import BaseModel

from redline.tether.connection import Connection, Received, Sender
from redline.tether.identity import Ancestor, Caller, OutsiderError, UnknownSenderError
from redline.tether.protocol import Frame, FrameBuffer, OversizeError, ProtocolError, Refused, decode, encode
from redline.tether.record import Refusal

FrameT = TypeVar("FrameT", bound=BaseModel)


class RefusalError(Exception):
    """A call that is not answered, with the reason to record and a detail for the reader of the record."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        """Refuse with a reason."""
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail


class Channel:
    """Frames over an accepted, non-blocking connection on which the sender of each message is known."""

    def __init__(
        self,
        connection: Connection,
        frame_bytes: int,
        on_descriptor: Callable[[int], None],
        pace: Callable[[int], Awaitable[None]] | None = None,
        reads_a_message: int | None = None,
    ) -> None:
        """Speak on a connection.

        Args:
            connection: The connection.
            frame_bytes: Longest message.
            on_descriptor: Told the sender of each message that passed a descriptor.
            pace: Awaited with the size of each read, which is how a cell is held to its budget.
            reads_a_message: Reads that one message may take; any number where it is None.
        """
        self._connection = connection
        self._buffer = FrameBuffer(frame_bytes)
        self._on_descriptor = on_descriptor
        self._pace = pace
        self._reads_a_message = reads_a_message
        self._sender: Sender | None = None
        self.bytes_in = 0
        """Bytes that were read."""
        self.bytes_out = 0
        """Bytes that were written."""

    @property
    def speaker(self) -> int:
        """Pid of who speaks; of who connected, while nobody has spoken."""
        return self._sender.pid if self._sender else self._connection.connector

    def caller(self) -> Caller:
        """Name the process that speaks.

        Raises:
            RefusalError: It is gone, or belongs to no node of the cell.
        """
        try:
            return self._connection.caller(self._sender or Sender(0, None))
        except OutsiderError as error:
            raise RefusalError("outsider", str(error)) from error
        except UnknownSenderError as error:
            raise RefusalError("unknown_sender", str(error)) from error

    def is_there(self, caller: Caller) -> bool:
        """Whether the process that speaks is still this one."""
        return self._connection.is_there(caller)

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the processes above the one that speaks, nearest first."""
        return self._connection.ancestors(caller)

    def started(self, caller: Caller) -> float:
        """Return the latest time at which the process that speaks can have started, on the clock since boot."""
        return self._connection.started(caller)

    async def receive(self, kind: type[FrameT], seconds: float) -> FrameT:
        """Return the next frame, which must be of this kind and complete in time.

        Raises:
            RefusalError: It is not.
        """
        try:
            with anyio.fail_after(seconds):
                frame = decode(await self._body())
        except TimeoutError:
            raise RefusalError("slow", f"no whole message in {seconds:g} s") from None
        except OversizeError as error:
            raise RefusalError("oversize", str(error)) from error
        except ProtocolError as error:
            raise RefusalError("malformed", str(error)) from error
        if not isinstance(frame, kind):
            raise RefusalError("malformed", f"{type(frame).__name__} where {kind.__name__} is due")
        return frame

    async def send(self, frame: Frame, seconds: float) -> None:
        """Send a frame to a peer that must take it in time.

        Raises:
            RefusalError: It does not.
        """
        rest = memoryview(encode(frame))
        try:
            with anyio.fail_after(seconds):
                while rest:
                    try:
                        rest = rest[self._write(rest) :]
                    except BlockingIOError:
                        await anyio.wait_writable(self._connection.socket)
        except TimeoutError:
            raise RefusalError("slow", f"did not take its message in {seconds:g} s") from None
        except OSError as error:
            raise RefusalError("gone", errno.errorcode.get(error.errno or 0, "")) from error

    def close(self, parting: Refused | None) -> None:
        """Close, with a parting word if the peer's buffer has room for it; never waits."""
        try:
            if parting is not None:
                self._write(memoryview(encode(parting)))
        except OSError:
            return  # The peer is gone or does not read: it has its answer.
        finally:
            self._connection.close()

    def _write(self, data: memoryview) -> int:
        count = self._connection.write(data)
        self.bytes_out += count
        return count

    async def _body(self) -> bytes:
        reads = 0
        while (body := self._buffer.next()) is None:
            try:
                data = self._read()
            except BlockingIOError:
                await anyio.wait_readable(self._connection.socket)
                continue
            self._buffer.feed(data)
            reads += 1
            if self._reads_a_message is not None and reads > self._reads_a_message:
                raise RefusalError("flood", f"a message in more than {self._reads_a_message} pieces")
            if self._pace is not None:
                await self._pace(len(data))
        return body

    def _read(self) -> bytes:
        try:
            received = self._connection.read()
        except BlockingIOError:
            raise
        except OSError as error:
            raise RefusalError("gone", errno.errorcode.get(error.errno or 0, "")) from error
        if not received.data:
            raise RefusalError("gone", "end of stream")
        self.bytes_in += len(received.data)
        self._attribute(received)
        return received.data

    def _attribute(self, received: Received) -> None:
        sender = received.sender
        if received.passed:
            self._on_descriptor(sender.pid)
        if sender.pid <= 0:
            raise RefusalError("unknown_sender", "the kernel names no process")
        if self._sender is None:
            self._sender = sender
        elif sender != self._sender:
            raise RefusalError("sender_changed", f"{self._sender.pid}, then {sender.pid}")
