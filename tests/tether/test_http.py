import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from redline.tether.caps import HttpLimits
from redline.tether.http import HttpFault, get, post_json
from tests.tether.outside import Loopback, free_port

pytestmark = pytest.mark.anyio
Conduct = Callable[[socket.socket], None]


@contextmanager
def serving(conduct: Conduct, path: Path | None = None) -> Iterator[int]:
    """A server that handles one connection with a given function."""
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(str(path) if path else ("127.0.0.1", 0))
    listener.listen()
    listener.settimeout(5.0)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5.0)
            conduct(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield 0 if path else listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


def answering(wire: bytes) -> Conduct:
    def conduct(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(wire)

    return conduct


async def test_json_is_posted_and_the_reply_is_parsed() -> None:
    def echo(connection: socket.socket) -> None:
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        lines = head.decode().splitlines()
        answer = json.dumps({"line": lines[0], "body": json.loads(body)}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    with serving(echo) as port:
        reply = await post_json(Loopback(), port, "/task", {"a": "ä"})
    assert reply.json == {"line": "POST /task HTTP/1.1", "body": {"a": "ä"}}


async def test_a_unix_socket_can_be_given_instead_of_a_port(tmp_path: Path) -> None:
    with serving(answering(b"HTTP/1.0 200 OK\r\n\r\nplain"), tmp_path / "s"):
        reply = await get(Loopback(), str(tmp_path / "s"), "/health")
    assert (reply.status, reply.json, reply.text) == (200, None, "plain")


async def test_a_redirect_is_returned_and_not_followed() -> None:
    with serving(
        answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    ) as port:
        assert (await get(Loopback(), port, "/")).status == 302


@pytest.mark.parametrize(
    ("wire", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000, "longer than"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"fff\r\n"
            + b"x" * 4095
            + b"\r\n"
            + b"0" * 200_000,
            "HTTP",
        ),
        (b"SSH-2.0-server\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "not HTTP"),
        (b"", "not HTTP"),
    ],
)
async def test_an_invalid_answer_raises_a_fault(wire: bytes, fault: str) -> None:
    def conduct(connection: socket.socket) -> None:
        try:
            answering(wire)(connection)
        except OSError:
            return  # The client closes in the middle, as it should.

    with serving(conduct) as port, pytest.raises(HttpFault, match=fault):
        await get(Loopback(), port, "/", timeout=2.0)


async def test_an_endless_slow_answer_ends_at_the_timeout() -> None:
    def drip(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"H")
                time.sleep(0.05)
        except OSError:
            return

    began = time.monotonic()
    with serving(drip) as port, pytest.raises(HttpFault, match="HTTP|no answer"):
        await get(Loopback(), port, "/", timeout=0.3)
    assert time.monotonic() - began < 10


async def test_a_port_without_a_listener_raises_a_fault() -> None:
    with pytest.raises(HttpFault, match="ConnectionRefused"):
        await get(Loopback(), free_port(), "/")


async def test_endless_chunks_are_limited_in_number_and_other_tasks_run() -> None:
    def chunks(connection: socket.socket) -> None:
        connection.recv(65536)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                connection.sendall(b"1\r\nx\r\n" * 10_000)
        except OSError:
            return

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    limits = HttpLimits.default()
    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with serving(chunks) as port, pytest.raises(HttpFault, match=f"more than {limits.pieces} pieces"):
            await get(Loopback(), port, "/", timeout=30.0)
        group.cancel_scope.cancel()
    assert turns >= limits.pieces // limits.pieces_per_slice


async def test_an_answer_with_one_chunk_per_token_is_read() -> None:
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 4000 + b"0\r\n\r\n"
    with serving(answering(wire)) as port:
        assert (await get(Loopback(), port, "/")).text == "x" * 4000
