"""One connection of a peer, with limits on the size, the time and the sender of its messages."""

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
    """Raised when a call is not answered; has the reason and a detail for the record."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        """Store the reason and the detail."""
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail


class Channel:
    """Frames over an accepted, non-blocking connection, with the sender of each message."""

    def __init__(
        self,
        connection: Connection,
        frame_bytes: int,
        on_descriptor: Callable[[int], None],
        pace: Callable[[int], Awaitable[None]] | None = None,
        reads_per_message: int | None = None,
    ) -> None:
        """Wrap a connection.

        Args:
            connection: The connection.
            frame_bytes: Maximum length of a message.
            on_descriptor: Called with the sender of each message that passed a descriptor.
            pace: Awaited with the size of each read, to enforce the cell's budget.
            reads_per_message: Maximum number of reads for one message; no limit if None.
        """
        self._connection = connection
        self._buffer = FrameBuffer(frame_bytes)
        self._on_descriptor = on_descriptor
        self._pace = pace
        self._reads_per_message = reads_per_message
        self._sender: Sender | None = None
        self.bytes_in = 0
        """Number of bytes read."""
        self.bytes_out = 0
        """Number of bytes written."""

    @property
    def sender_pid(self) -> int:
        """Pid of the sender, or of the process that connected while nothing has been sent."""
        return self._sender.pid if self._sender else self._connection.connector

    def caller(self) -> Caller:
        """Return the process that sends on this connection.

        Raises:
            RefusalError: The process has ended or belongs to no node of the cell.
        """
        try:
            return self._connection.caller(self._sender or Sender(0, None))
        except OutsiderError as error:
            raise RefusalError("outsider", str(error)) from error
        except UnknownSenderError as error:
            raise RefusalError("unknown_sender", str(error)) from error

    def is_still(self, caller: Caller) -> bool:
        """Return whether the sender is still this process."""
        return self._connection.is_still(caller)

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the ancestors of the sender, nearest first."""
        return self._connection.ancestors(caller)

    def latest_start(self, caller: Caller) -> float:
        """Return the latest possible start time of the sender, on the clock since boot."""
        return self._connection.latest_start(caller)

    async def receive(self, kind: type[FrameT], seconds: float) -> FrameT:
        """Return the next frame.

        Raises:
            RefusalError: The frame is of another kind, invalid, or not complete in time.
        """
        try:
            with anyio.fail_after(seconds):
                frame = decode(await self._body())
        except TimeoutError:
            raise RefusalError("slow", f"no complete message in {seconds:g} s") from None
        except OversizeError as error:
            raise RefusalError("oversize", str(error)) from error
        except ProtocolError as error:
            raise RefusalError("malformed", str(error)) from error
        if not isinstance(frame, kind):
            raise RefusalError("malformed", f"got {type(frame).__name__}, expected {kind.__name__}")
        return frame

    async def send(self, frame: Frame, seconds: float) -> None:
        """Send a frame.

        Raises:
            RefusalError: The peer does not read it in time.
        """
        remaining = memoryview(encode(frame))
        try:
            with anyio.fail_after(seconds):
                while remaining:
                    try:
                        remaining = remaining[self._write(remaining) :]
                    except BlockingIOError:
                        await anyio.wait_writable(self._connection.socket)
        except TimeoutError:
            raise RefusalError("slow", f"did not read its message in {seconds:g} s") from None
        except OSError as error:
            raise RefusalError("gone", errno.errorcode.get(error.errno or 0, "")) from error

    def close(self, last: Refused | None) -> None:
        """Close without waiting; send a last message if the peer's buffer has room for it."""
        try:
            if last is not None:
                self._write(memoryview(encode(last)))
        except OSError:
            return  # The peer has ended or does not read.
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
            if self._reads_per_message is not None and reads > self._reads_per_message:
                raise RefusalError("flood", f"a message in more than {self._reads_per_message} pieces")
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
