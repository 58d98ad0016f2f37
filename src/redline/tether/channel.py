"""One connection of a peer, read and written with a bound on everything: size, time, and who may speak on it."""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
from pydantic import BaseModel

from redline.tether.protocol import Frame, FrameBuffer, OversizeError, ProtocolError, Refused, decode, encode
from redline.tether.record import Refusal

_READ: Final = 64 * 1024
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
# Room for the sender's credentials alone: the kernel drops passed descriptors that have no room, and says so.
_ROOM: Final = socket.CMSG_SPACE(_CREDENTIALS.size)

FrameT = TypeVar("FrameT", bound=BaseModel)


class RefusalError(Exception):
    """A call that is not answered, with the reason to record and a detail for the reader of the record."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        """Refuse with a reason."""
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail


class Channel:
    """Frames over an accepted, non-blocking unix socket on which the kernel names the sender of each message."""

    def __init__(self, connection: socket.socket, frame_bytes: int, on_descriptor: Callable[[int], None]) -> None:
        """Speak on a connection; `on_descriptor` is told the sender of each message that passed a descriptor."""
        self._socket = connection
        self._buffer = FrameBuffer(frame_bytes)
        self._on_descriptor = on_descriptor
        self.sender: int | None = None

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
                        rest = rest[self._socket.send(rest, socket.MSG_NOSIGNAL) :]
                    except BlockingIOError:
                        await anyio.wait_writable(self._socket)
        except TimeoutError:
            raise RefusalError("slow", f"did not take its message in {seconds:g} s") from None
        except OSError as error:
            raise RefusalError("gone", errno.errorcode.get(error.errno or 0, "")) from error

    def close(self, parting: Refused | None) -> None:
        """Close, with a parting word if the peer's buffer has room for it; never waits."""
        with self._socket:
            if parting is not None:
                try:
                    self._socket.send(encode(parting), socket.MSG_NOSIGNAL)
                except OSError:
                    return  # The peer is gone or does not read: it has its answer.

    async def _body(self) -> bytes:
        while (body := self._buffer.next()) is None:
            try:
                self._buffer.feed(self._read())
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
        return body

    def _read(self) -> bytes:
        try:
            # A read ends where the sender changes: the kernel does not join messages of two.
            data, ancillary, flags, _ = self._socket.recvmsg(_READ, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise
        except OSError as error:
            raise RefusalError("gone", errno.errorcode.get(error.errno or 0, "")) from error
        if not data:
            raise RefusalError("gone", "end of stream")
        sender = self._attribute(ancillary, flags)
        if self.sender is None:
            self.sender = sender
        elif sender != self.sender:
            raise RefusalError("sender_changed", f"{self.sender}, then {sender}")
        return data

    def _attribute(self, ancillary: list[tuple[int, int, bytes]], flags: int) -> int:
        """Return the sender's pid; get rid of descriptors."""
        sender, passed = 0, bool(flags & socket.MSG_CTRUNC)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = _CREDENTIALS.unpack(payload)[0]
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed = True
                for (fd,) in struct.iter_unpack("i", payload[: len(payload) // 4 * 4]):
                    os.close(fd)
        if passed:
            self._on_descriptor(sender)
        if sender <= 0:
            raise RefusalError("unknown_sender", "the kernel names no process")
        return sender
