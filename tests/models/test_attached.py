"""A running llama.cpp server reports its slots. The query ends in time whatever a server replies."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redline.models import attached
from redline.models.attached import attached_slots
from redline.models.fit import Size
from redline.models.gguf_header import read_gguf
from redline.models.server import EmbeddedServer
from tests.local_server import local_server, write_model


@contextlib.contextmanager
def answering(*parts: bytes, pause: float = 0.0, forever: bool = False) -> Iterator[str]:
    """Run a server that answers every request with these bytes, part by part."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as client:
                    client.recv(65536)
                    while True:
                        for part in parts:
                            client.sendall(part)
                            over.wait(pause)
                        if not forever or over.is_set():
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def reply(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


def test_llama_cpp_reports_its_slots(tmp_path: Path) -> None:
    with local_server(tmp_path) as address:
        assert attached_slots(f"{address}/v1", None) == 1
        assert attached_slots(f"{address}/v1/", "none") == 1


def test_the_key_of_the_models_client_is_sent(tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf")
    server = EmbeddedServer(read_gguf(tmp_path / "m.gguf"), "m", Size(ctx=512, slots=2, threads=1, prompts_mib=0), 4)
    try:
        server.start()
        assert attached_slots(f"{server.address}/v1", server.key) == 2
        assert attached_slots(f"{server.address}/v1", "another") is None
    finally:
        server.close()


@pytest.mark.parametrize(
    "reply",
    [
        reply(b"{}"),
        reply(b"[]"),
        reply(b'{"total_slots": 0}'),
        reply(b'{"total_slots": "9"}'),
        reply(b'{"total_slots": 4', b"200 OK"),
        reply(b'{"total_slots": 4}', b"404 Not Found"),
        reply(b"<html>", b"502 Bad Gateway"),
        reply(b"\xff\xfe"),
        reply(b"[" * 200_000),
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_any_other_reply_yields_no_slots(reply: bytes) -> None:
    with answering(reply) as address:
        assert attached_slots(address, None) is None


@pytest.mark.slow
@pytest.mark.parametrize(("body", "pause"), [(b"", 0.2), (b" ", 0.2), (b" " * 65536, 0.0)])
def test_an_endless_reply_is_abandoned(body: bytes, pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached, "ASK_SECONDS", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" if body else b""
    with answering(head + body, pause=pause, forever=True) as address:
        begun = time.monotonic()
        assert attached_slots(address, None) is None
        assert time.monotonic() - begun < 5


def test_without_a_listener_there_are_no_slots() -> None:
    assert attached_slots("http://127.0.0.1:9/v1", None) is None
    assert attached_slots("not an address", None) is None
    assert attached_slots("http://[::1", None) is None
