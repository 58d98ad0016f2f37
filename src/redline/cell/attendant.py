"""The harness's side of an attendant: the program that works inside a node which the host cannot see into.

Its callers get ordinary sockets.
"""

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from redline.cell.errors import CellError, CellGoneError
from redline.cell.programs.frames import (
    ANSWER,
    CONNECT,
    DATA,
    FAILED,
    JOIN,
    LISTEN,
    OPENED,
    READY,
    RELEASE,
    SIGNAL,
    WRITE,
)
from redline.cell.stream import Call, Stream

START_TIMEOUT = 20.0
SPARE_SECONDS = 2.0
WRITE_CHUNK = 1 << 20


class Attendant:
    """A running attendant."""

    def __init__(self, node: str, receive_fd: int, send_fd: int, lease: float | None = None) -> None:
        """Take over both directions of a stream (they may be one descriptor) and close them at its end.

        Args:
            node: The node that it works in.
            receive_fd: Descriptor to read from.
            send_fd: Descriptor to write to.
            lease: Seconds of silence after which the attendant ends everything; only recorded here.
        """
        self.node = node
        self.lease = lease
        self._stream = Stream(f"attendant {node}", receive_fd, send_fd)

    async def ready(self) -> None:
        """Wait until it is up.

        Raises:
            CellError: It did not come up.
        """
        try:
            await self._result(self._stream.ready, START_TIMEOUT)
        except (CellGoneError, TimeoutError) as error:
            raise CellError(f"the attendant of node {self.node} did not come up: {error}") from error

    async def join(
        self,
        program: str,
        request: Mapping[str, object],
        *,
        held: Sequence[int] = (),
        data: bytes | None = None,
        timeout: float = 30.0,
    ) -> tuple[dict[str, Any], list[int]]:
        """Run a program in the node; see `Cell.run_with_cell_privileges`.

        Raises:
            CellError: It raised.
            CellGoneError: The node is gone.
            TimeoutError: It took too long.
        """
        message = {
            "program": program,
            "request": dict(request),
            "held": list(held),
            "data": None if data is None else len(data),
            "timeout": timeout,
            "node": self.node,
        }
        frames = [(JOIN, json.dumps(message).encode())]
        frames += [(DATA, data[at : at + WRITE_CHUNK]) for at in range(0, len(data or b""), WRITE_CHUNK) if data]
        return await self._request(frames, timeout + SPARE_SECONDS)

    async def write(self, handle: int, offset: int, data: bytes) -> None:
        """Write to a file that is held inside.

        Raises:
            OSError: Writing failed.
        """
        for at in range(0, len(data), WRITE_CHUNK):
            payload = struct.pack(">QQ", handle, offset + at) + data[at : at + WRITE_CHUNK]
            await self._request([(WRITE, payload)], START_TIMEOUT)

    async def release(self, handles: Sequence[int]) -> None:
        """Close files that are held inside."""
        if handles:
            await self._request([(RELEASE, json.dumps(list(handles)).encode())], START_TIMEOUT)

    @property
    def is_serving(self) -> bool:
        """Whether the attendant still serves."""
        return not self._stream.ended

    async def signal(self, number: int) -> None:
        """Send a signal to every process of the node except the first one and the attendant."""
        await self._request([(SIGNAL, number.to_bytes(4, "big"))], START_TIMEOUT)

    async def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """Connect to a port inside.

        Raises:
            OSError: Nothing listens there, or the node is gone.
            TimeoutError: There was no answer in time.
        """
        return await self._open({"address": address, "port": port, "timeout": timeout}, timeout)

    async def connect_unix(self, path: str, timeout: float) -> socket.socket:
        """Connect to a unix socket inside; no link in its path is followed."""
        return await self._open({"path": path, "timeout": timeout}, timeout)

    async def listen(self, path: str) -> socket.socket:
        """Bind a unix socket inside to which the agent's processes can connect.

        Returns:
            A SOCK_SEQPACKET socket. Each message is JSON with the pid of the connecting process, and has one
            descriptor, a SOCK_SEQPACKET socket. Its incoming packets are 4 bytes of length, a JSON description of that
            length (pid, start and ancestors of the sender; whether descriptors were passed), and data of this one
            sender. Its outgoing packets are data only.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        number = self._stream.new_number()
        self._stream.add_endpoint(number, ours)
        try:
            await self._request([(LISTEN, json.dumps({"path": path}).encode())], START_TIMEOUT, number)
        except BaseException:
            theirs.close()
            raise
        return theirs

    def close(self) -> None:
        """End the stream, and with it everything in the node."""
        self._stream.close()

    async def _open(self, message: Mapping[str, object], timeout: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        number = self._stream.new_number()
        self._stream.add_connection(number, ours)
        try:
            await self._request([(CONNECT, json.dumps(message).encode())], timeout + SPARE_SECONDS, number)
        except BaseException as error:
            theirs.close()  # which also ends the connection
            if isinstance(error, CellGoneError):
                raise ConnectionResetError(str(error)) from error
            raise
        return theirs

    async def _request(
        self, frames: Sequence[tuple[int, bytes]], timeout: float, number: int | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        number = self._stream.new_number() if number is None else number
        call = self._stream.new_call(number)
        for kind, payload in frames:
            self._stream.post(number, kind, payload)
        return await self._result(call, timeout)

    async def _result(self, call: Call, timeout: float) -> tuple[dict[str, Any], list[int]]:
        try:
            with anyio.fail_after(timeout):
                await anyio.wait_readable(call.read)
        finally:
            anyio.notify_closing(call.read)
            os.close(call.read)
        if call.kind == FAILED:
            failure = json.loads(call.payload)
            if failure["errno"] is not None:
                raise OSError(failure["errno"], os.strerror(failure["errno"]))
            raise CellError(failure["what"])
        if call.kind != ANSWER:
            if call.kind in (OPENED, READY):
                return {}, []
            raise CellGoneError(f"the attendant of node {self.node} is gone")
        answer = json.loads(call.payload)
        if "error" in answer:
            error = CellError(answer["error"])
            error.add_note(str(answer.get("detail", "")))
            raise error
        return answer["answer"], answer["held"]
