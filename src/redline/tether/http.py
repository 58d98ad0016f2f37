"""HTTP from outside into a cell: one bounded request on one connection, no redirects."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel
import h11

from redline.tether.caps import HttpLimits

_READ: Final = 64 * 1024
MIB: Final = 2**20


class Connector(Protocol):
    """The part of a cell that HTTP needs."""

    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        """Connect to a port inside."""

    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        """Connect to a unix socket inside."""


class HttpFault(Exception):
    """Raised when the service gives no valid answer within the limits."""


class NoAnswerFault(HttpFault):
    """Raised when the service gives no complete answer within the time."""


@dataclass(frozen=True)
class HttpReply:
    """An HTTP response: its status, its text, and the parsed JSON if it is JSON."""

    status: int
    json: Any | None
    text: str


async def get(
    cell: Connector,
    port: int | str,
    path: str,
    *,
    node: str = "default",
    address: str = "127.0.0.1",
    timeout: float = 5.0,
    limit: int = MIB,
    headers: Mapping[str, str] | None = None,
) -> HttpReply:
    """Send a GET request to a service in the cell; see `post_json`."""
    request = _Request("GET", path, b"", timeout, limit, _authority(port, address), headers or {})
    return await _ask(cell, port, node, address, request)


async def post_json(  # noqa: PLR0913 - callers pass each by its name
    cell: Connector,
    port: int | str,
    path: str,
    body: Mapping[str, object],
    *,
    node: str = "default",
    address: str = "127.0.0.1",
    timeout: float = 5.0,
    limit: int = MIB,
    headers: Mapping[str, str] | None = None,
) -> HttpReply:
    """Post JSON to a service in the cell.

    Args:
        cell: The cell.
        port: TCP port, or the path of a unix socket.
        path: Path of the request.
        body: Content to post.
        node: Node of the cell.
        address: Address of the service.
        timeout: Seconds for the whole request.
        limit: Maximum bytes of the answer.
        headers: Headers in addition to the usual ones.

    Raises:
        HttpFault: No service listens, or it gives no valid answer within the time and the size.
    """
    request = _Request(
        "POST", path, json.dumps(body).encode(), timeout, limit, _authority(port, address), headers or {}
    )
    return await _ask(cell, port, node, address, request)


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: bytes
    timeout: float
    limit: int
    authority: str
    headers: Mapping[str, str]

    def encode(self, connection: h11.Connection) -> bytes:
        headers = [("Host", self.authority), ("Accept", "*/*"), ("Connection", "close")]
        if self.body:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(self.body)))]
        headers += self.headers.items()
        parts = [connection.send(h11.Request(method=self.method, target=self.path, headers=headers))]
        if self.body:
            parts.append(connection.send(h11.Data(data=self.body)))
        parts.append(connection.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)


def _authority(port: int | str, address: str) -> str:
    """Return the value of the Host header, as a client with a URL would send it."""
    if isinstance(port, str):
        return "localhost"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


async def _ask(cell: Connector, port: int | str, node: str, address: str, request: _Request) -> HttpReply:
    try:
        with anyio.fail_after(request.timeout):
            connecting = min(request.timeout, 2.0)
            if isinstance(port, str):
                connected = await cell.connect_unix(port, node=node, timeout=connecting)
            else:
                connected = await cell.connect(port, node=node, address=address, timeout=connecting)
            with connected:
                connected.setblocking(False)
                return await _exchange(connected, request)
    except TimeoutError:
        raise NoAnswerFault(f"no answer in {request.timeout:g} s") from None
    except OSError as error:
        raise HttpFault(f"{type(error).__name__}: {error}") from error
    except h11.ProtocolError as error:
        raise HttpFault(f"not HTTP: {error}") from error


async def _exchange(connected: socket.socket, request: _Request) -> HttpReply:
    connection = h11.Connection(h11.CLIENT)
    await _send(connected, request.encode(connection))
    status, body, pieces = 0, bytearray(), 0
    limits = HttpLimits.default()
    while True:
        event = connection.next_event()
        pieces += 1
        if pieces > limits.pieces:
            raise HttpFault(f"the answer comes in more than {limits.pieces} pieces")
        if pieces % limits.pieces_per_slice == 0:
            await anyio.lowlevel.checkpoint()  # one read can contain thousands of chunks
        if event is h11.NEED_DATA:
            connection.receive_data(await _receive(connected))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > request.limit:
                raise HttpFault(f"the answer is longer than {request.limit} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return _reply(status, bytes(body))


async def _send(connected: socket.socket, data: bytes) -> None:
    remaining = memoryview(data)
    while remaining:
        try:
            remaining = remaining[connected.send(remaining, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            await anyio.wait_writable(connected)


async def _receive(connected: socket.socket) -> bytes:
    await anyio.lowlevel.checkpoint()  # a peer that always has data would otherwise block the event loop
    while True:
        try:
            return connected.recv(_READ)
        except BlockingIOError:
            await anyio.wait_readable(connected)


def _reply(status: int, body: bytes) -> HttpReply:
    text = body.decode(errors="replace")
    try:
        return HttpReply(status, json.loads(text), text)
    except (ValueError, RecursionError):
        return HttpReply(status, None, text)
