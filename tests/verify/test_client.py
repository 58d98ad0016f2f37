"""The client of chat servers: lists of models, answers, and keys of processes."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.tether import HttpReply
from redline.verify.client import ChatClient, completion_text, keys_in, model_names, with_keys


def reply(body: str, status: int = 200) -> HttpReply:
    try:
        return HttpReply(status, json.loads(body), body)
    except (ValueError, RecursionError):
        return HttpReply(status, None, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"choices": [{"message": {"content": "yes"}}]}', "yes"),
        ('{"choices": [{"message": {"content": [{"type": "text", "text": "y"}, {"text": "es"}]}}]}', "yes"),
        ('{"choices": [{"text": "yes"}]}', "yes"),
        ('{"message": {"role": "assistant", "content": "yes"}}', "yes"),
        ('data: {"choices": [{"delta": {"content": "y"}}]}\n\ndata: {"choices": [{"delta": {"content": "es"}}]}\n\n'
         "data: [DONE]\n\n", "yes"),
        ('{"message": {"role": "a", "content": "y"}}\n{"message": {"role": "a", "content": "es"}}\n', "yes"),
        ('{"message": "created"}', ""),
        ('{"text": "no chat"}', ""),
        ('{"choices": []}', ""),
        ("not JSON", ""),
    ],
)  # fmt: skip
def test_the_text_of_a_completion_is_read_in_every_format(body: str, text: str) -> None:
    assert completion_text(reply(body)) == text


def test_an_error_is_no_completion() -> None:
    assert completion_text(reply('{"choices": [{"message": {"content": "yes"}}]}', 400)) == ""
    assert completion_text(None) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["choices", "message", "delta", "data", "id"]), inner)
    ),
)


@pytest.mark.long
@given(JSON, st.text())
def test_no_answer_breaks_the_client(value: object, text: str) -> None:
    for body in (json.dumps(value), f"data: {json.dumps(value)}\n{text}", text):
        assert isinstance(completion_text(reply(body)), str)
        assert all(isinstance(name, str) for name in model_names(reply(body)))


def test_models_are_read_as_servers_list_them() -> None:
    assert model_names(reply('{"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}')) == ["a", "b"]
    assert model_names(reply('{"models": [{"name": "a"}]}')) == ["a"]
    assert model_names(reply('{"models": ["a"]}')) == ["a"]
    assert model_names(reply('{"data": [{"id": "a"}]}', 401)) == []


def test_keys_are_found_in_arguments_and_environments() -> None:
    commands = [["python3", "serve.py", "--api-key", "k1"], ["x", "--token=k2", "--port", "80"]]
    assert keys_in(commands, [["PATH=/bin", "OPENAI_API_KEY=k3", "AUTH=Bearer k4"]]) == ["k1", "k2", "k3", "k4"]


@given(st.lists(st.text()))
def test_headers_contain_only_what_http_allows(keys: list[str]) -> None:
    for headers in with_keys(keys):
        assert all(value.isascii() and value.isprintable() for value in headers.values())


MODEL = "house/model-7b"
KEY = "k-0123456789"


class Loopback:
    """A connection to a server on this host, with the interface of a cell."""

    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        made = socket.create_connection((address, port), timeout)
        made.setblocking(False)
        return made

    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        raise FileNotFoundError(path)


@dataclass(frozen=True)
class At:
    port: int
    node: str = "default"
    ip: str = "127.0.0.1"


class Server(BaseHTTPRequestHandler):
    """Answers chats that are sent in the way its settings require."""

    base = "/v1"
    model = ""
    header = ""
    stream = False

    def do_GET(self) -> None:
        allowed = self.header in ("", *map(": ".join, self.headers.items()))
        listed = self.path == self.base + "/models"
        self.reply(401 if not allowed else 200 if listed else 404, {"data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.header not in ("", *map(": ".join, self.headers.items())):
            self.reply(403, {"error": "no key"})
        elif self.path != self.base + "/chat/completions" or self.model not in ("", asked["model"]):
            self.reply(404, {"error": "no such path or model"})
        elif self.stream and not asked.get("stream"):
            self.reply(400, {"error": "streams only"})
        else:
            self.reply(200, {"choices": [{"message": {"content": asked["messages"][0]["content"]}}]})

    def reply(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(**habits: object) -> Iterator[At]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Habits", (Server,), habits)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield At(server.server_port)
        finally:
            server.shutdown()
            thread.join()


async def known_keys() -> list[str]:
    return ["another", KEY]


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize(
    "habits",
    [
        {},
        {"model": MODEL},
        {"base": "/api/v1"},
        {"base": "", "model": MODEL},
        {"header": f"Authorization: Bearer {KEY}"},
        {"header": f"x-api-key: {KEY}"},
        {"header": f"Authorization: Bearer {KEY}", "base": "/api/v1", "model": MODEL},
        {"stream": True},
    ],
    ids=str,
)
async def test_a_server_is_asked_in_the_way_that_it_requires(habits: dict[str, object]) -> None:
    with serving(**habits) as endpoint:
        asked = await ChatClient(Loopback(), endpoint, "hello", 5.0, known_keys, lambda: False).ask()
    assert asked.text == "hello"


@pytest.mark.anyio
async def test_a_question_that_caused_a_call_is_not_sent_again() -> None:
    with serving(model=MODEL) as endpoint:
        asked = await ChatClient(Loopback(), endpoint, "hello", 5.0, known_keys, lambda: True).ask()
    assert (asked.status, asked.text) == (404, "")


@pytest.mark.anyio
async def test_an_address_that_refuses_connections_is_a_fault_and_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    asked = await ChatClient(Loopback(), At(port), "hello", 5.0, known_keys, lambda: False).ask()
    assert (asked.status, asked.text) == (None, "")
    assert "refused" in asked.fault.lower()
