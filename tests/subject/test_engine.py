"""The bundled LLM server as a process of this host. Its proofs are tested with the broker."""

import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import openai
import pytest

from redline.subject import Weights
from redline.tether import CallInfo, Message
from redline.tether.http import get, post_json
from tests.tether.outside import Loopback, Model, Running, Site, ask, engine_on, site
from tests.weight_files import write_weights

pytestmark = pytest.mark.anyio
WEIGHTS = Weights.from_seed(5, 2**20, 2)
HERE = Loopback()
CHAT = "/v1/chat/completions"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, WEIGHTS) as it:
        yield it


@pytest.fixture
def unattached(tmp_path: Path) -> Iterator[Running]:
    """An engine without an accelerator."""
    with engine_on(write_weights(WEIGHTS, tmp_path / "w"), tmp_path / "nothing.sock") as running:
        yield running


async def test_an_openai_client_gets_answers_whole_and_as_a_stream(served: Site) -> None:
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{served.original.port}/v1", api_key="none", max_retries=0)
    models = await client.models.list()
    assert [model.id for model in models.data] == ["model"]
    whole = await client.chat.completions.create(
        model="model", messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}], max_tokens=7
    )
    assert whole.choices[0].message.content == "fine"
    stream = await client.chat.completions.create(
        model="model", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    chunks = [chunk.choices[0].delta.content async for chunk in stream]
    assert "".join(chunk or "" for chunk in chunks) == "fine"
    await client.close()
    (first, first_messages), _ = served.model.asked
    assert (first.max_tokens, first_messages[0].content) == (7, "hello")


async def test_calls_are_answered_concurrently(tmp_path: Path) -> None:
    class Meeting(Model):
        def __init__(self) -> None:
            super().__init__()
            self.all_here = anyio.Event()

        async def __call__(self, info: CallInfo, messages: list[Message]) -> str:
            self.asked.append((info, messages))
            if len(self.asked) == 4:
                self.all_here.set()
            with anyio.fail_after(5):
                await self.all_here.wait()
            return "fine"

    async with site(tmp_path, WEIGHTS, model=Meeting()) as it, anyio.create_task_group() as group:
        statuses: list[int] = []

        async def call_it() -> None:
            statuses.append((await ask(it.original)).status)

        for _ in range(4):
            group.start_soon(call_it)
    assert statuses == [200] * 4


async def test_without_its_accelerator_it_is_healthy_and_answers_503(unattached: Running) -> None:
    assert (await get(HERE, unattached.port, "/health")).json == {"status": "ok"}
    reply = await ask(unattached)
    assert reply.status == 503
    assert reply.json is not None
    assert "accelerator" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/elsewhere", {"messages": []}, 404),
        (CHAT, {}, 400),
        (CHAT, {"messages": "hello"}, 400),
        (CHAT, {"messages": ["hello"]}, 400),
        (CHAT, {"messages": [], "max_tokens": "many"}, 400),
        (CHAT, {"messages": [], "max_tokens": -1}, 400),
    ],
)
async def test_a_bad_request_gets_an_error_response(
    unattached: Running, path: str, body: dict[str, object], status: int
) -> None:
    reply = await post_json(HERE, unattached.port, path, body)
    assert reply.status == status
    assert reply.json is not None
    assert reply.json["error"]["code"] == status


@pytest.mark.parametrize(
    ("head", "body"),
    [("", b""), ("Content-Length: x\r\n", b""), ("Content-Length: 3\r\n", b"{a}"), ("Content-Length: 2\r\n", b"[]")],
)
def test_a_body_that_is_not_an_object_is_a_bad_request(unattached: Running, head: str, body: bytes) -> None:
    with socket.create_connection(("127.0.0.1", unattached.port), timeout=5) as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body)
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_request_that_announces_too_many_bytes_is_refused_unread(unattached: Running) -> None:
    with socket.create_connection(("127.0.0.1", unattached.port), timeout=5) as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {2**40}\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_it_keeps_its_weight_files_open_and_is_not_dumpable(unattached: Running, tmp_path: Path) -> None:
    opened = set()
    for entry in Path(f"/proc/{unattached.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a connection of its start that it has closed since
            opened.add(os.readlink(entry))
    assert {str(tmp_path / "w" / file.name) for file in WEIGHTS.files()} <= opened
    # /proc of a process that is not dumpable belongs to root; this is visible only if the user is not root.
    assert os.stat(f"/proc/{unattached.pid}/mem").st_uid == 0


def test_the_models_name_is_the_one_of_its_configuration(tmp_path: Path) -> None:
    folder = write_weights(WEIGHTS, tmp_path / "w")
    (folder / "config.json").write_text(json.dumps({"name": "assistant-1"}))
    with engine_on(folder, tmp_path / "s") as running:
        reply = anyio.run(get, HERE, running.port, "/v1/models")
    assert reply.json == {"object": "list", "data": [{"id": "assistant-1", "object": "model"}]}
