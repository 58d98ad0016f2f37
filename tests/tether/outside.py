"""An engine and a broker on this host without a cell: real processes, a real socket, real files."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from redline.cell.programs.prelude import start_time
from redline.subject.weights import Weights
from redline.tether import Broker, CallInfo, Caps, Message
from redline.tether.caps import Budget
from redline.tether.http import HttpReply, post_json
from tests.tether.peer import Raw
from tests.weight_files import write_weights

ENGINE = Path(__file__).parents[2] / "src/redline/subject/bundle/engine/engine.py"
AGENT = ENGINE.parents[1] / "agent/agent.py"
START_SECONDS = 20.0


@dataclass(frozen=True)
class Running:
    """A process of this test."""

    pid: int
    start: int
    port: int


class Loopback:
    """This host instead of a cell, for HTTP."""

    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        return await _connected(socket.socket(socket.AF_INET), (address, port), timeout)

    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        return await _connected(socket.socket(socket.AF_UNIX), path, timeout)


async def _connected(made: socket.socket, address: Any, timeout: float) -> socket.socket:
    made.setblocking(True)
    made.settimeout(timeout)
    await anyio.to_thread.run_sync(made.connect, address)
    made.setblocking(False)
    return made


@dataclass
class Model:
    """A model that records its requests and always gives the same answer."""

    answer: str = "fine"
    asked: list[tuple[CallInfo, list[Message]]] = field(default_factory=list)

    async def __call__(self, info: CallInfo, messages: list[Message]) -> str:
        self.asked.append((info, messages))
        return self.answer


@dataclass
class Site:
    """A folder with weights and a socket, a running broker, and generation 0's engine."""

    folder: Path
    weights: Weights
    broker: Broker
    model: Model
    original: Running

    @property
    def socket(self) -> Path:
        return self.folder / "accelerator.sock"

    @contextmanager
    def engine(self, weights: Path) -> Iterator[Running]:
        with engine_on(weights, self.socket) as running:
            yield running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], port: int) -> Iterator[Running]:
    """Start a server, wait until it listens, and run it until the end of the block."""
    process = subprocess.Popen([sys.executable, "-I", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        start = start_time(process.pid)
        assert start is not None
        yield Running(process.pid, start, port)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.01)


@contextmanager
def engine_on(weights: Path, socket_path: Path) -> Iterator[Running]:
    port = free_port()
    command = [str(ENGINE), "serve", "--weights", str(weights), "--port", str(port), "--accelerator", str(socket_path)]
    with started(command, port) as running:
        yield running


@contextmanager
def agent_of(engine: Running) -> Iterator[Running]:
    port = free_port()
    with started([str(AGENT), "--engine", f"http://127.0.0.1:{engine.port}", "--port", str(port)], port) as running:
        yield running


@asynccontextmanager
async def site(
    folder: Path,
    weights: Weights,
    caps: Caps | None = None,
    model: Model | None = None,
    *,
    budget: Budget | None = None,
    is_turn: Callable[[Sequence[Message]], bool] = lambda messages: False,
) -> AsyncIterator[Site]:
    """Run a broker with generation 0."""
    model = model or Model()
    broker = Broker({}, weights, caps or Caps.default(), model, budget=budget, is_turn=is_turn)
    original = write_weights(weights, folder / "weights")
    async with broker.listening({"default": folder / "accelerator.sock"}), anyio.create_task_group() as group:
        group.start_soon(broker.serve)
        with engine_on(original, folder / "accelerator.sock") as running:
            broker.register_generation_zero(running, running)
            yield Site(folder, weights, broker, model, running)
        group.cancel_scope.cancel()


async def ask(engine: Running, text: str = "hello", timeout: float = 20.0, **more: object) -> HttpReply:
    """Send a chat to an engine over HTTP."""
    body: Mapping[str, object] = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return await post_json(Loopback(), engine.port, "/v1/chat/completions", body, timeout=timeout)


def content(reply: HttpReply) -> str:
    """Return the model's message in an engine's answer."""
    assert reply.status == 200, reply.text
    assert reply.json is not None
    return str(reply.json["choices"][0]["message"]["content"])


def prove(peer: Raw, weights: Weights, change: Callable[[str], str] = str) -> None:
    """Answer the request of a proof from the weights."""
    question = peer.receive()
    assert question["type"] == "prove", question
    nonce = bytes.fromhex(question["nonce"])
    value = weights.proof_spot([(offset, length) for offset, length in question["ranges"]], nonce)
    peer.send({"type": "proof", "value": change(value)})


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run a blocking function in a thread."""
    return await anyio.to_thread.run_sync(function)
