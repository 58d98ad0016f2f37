"""The tether behind a relay: packets with a header that identifies the sender, as a cell's attendant sends them."""

import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from redline.subject.weights import MIB, Weights
from redline.tether import Broker, Caps, Relay
from tests.tether.outside import Model, Running

pytestmark = pytest.mark.anyio
WEIGHTS = Weights.from_seed(11, MIB, 2)
ZERO = Running(pid=5, start=100, port=0)
CALL = {"type": "call", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
CAPS = Caps.default(message_seconds=1.0)


def header(pid: int, start: int | None, ancestors: Sequence[tuple[int, int]] = (), passed: bool = False) -> bytes:
    text = json.dumps({"pid": pid, "start": start, "ancestors": ancestors, "passed": passed}).encode()
    return len(text).to_bytes(4, "big") + text


def frame(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


@dataclass
class Peer:
    """A process of the cell, through the relay."""

    packets: socket.socket
    pid: int = 20
    start: int | None = 200
    ancestors: tuple[tuple[int, int], ...] = ()

    async def send(self, data: bytes, passed: bool = False) -> None:
        self.packets.send(header(self.pid, self.start, self.ancestors, passed) + data)

    async def receive(self) -> dict[str, Any]:
        """Return the next frame; {} at the end."""
        with anyio.fail_after(10):
            await anyio.wait_readable(self.packets)
        data = self.packets.recv(1 << 16)
        return dict(json.loads(data[4:])) if data else {}

    async def ask(self) -> dict[str, Any]:
        """Make a complete call."""
        await self.send(frame(CALL))
        question = await self.receive()
        if question.get("type") == "prove":
            await self.send(frame({"type": "proof", "value": proof(question)}))
            return await self.receive()
        return question


def proof(question: dict[str, Any]) -> str:
    ranges = [(offset, length) for offset, length in question["ranges"]]
    return WEIGHTS.proof_spot(ranges, bytes.fromhex(question["nonce"]))


@dataclass
class Site:
    broker: Broker
    relays: dict[str, socket.socket]

    def connect(self, node: str = "default", **who: Any) -> Peer:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            hello = json.dumps({"connector": 0}).encode()  # as on gVisor
            socket.send_fds(self.relays[node], [hello], [theirs.fileno()])
        return Peer(ours, **who)

    async def refusals(self, count: int = 1) -> list[str | None]:
        with anyio.fail_after(10):
            while len(self.broker.record().calls) < count:
                await anyio.sleep(0.01)
        return [call.refusal for call in self.broker.record().calls]

    async def incident(self) -> tuple[str, str, int]:
        with anyio.fail_after(10):
            while not self.broker.record().incidents:
                await anyio.sleep(0.01)
        (found,) = self.broker.record().incidents
        return found.kind, found.node, found.pid


@asynccontextmanager
async def site(clock_lag: float = 0.0) -> AsyncIterator[Site]:
    pairs = {node: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for node in ("default", "target")}
    broker = Broker({}, WEIGHTS, CAPS, Model("```sh\nls\n```"))
    places = {node: Relay(theirs, clock_lag) for node, (_, theirs) in pairs.items()}
    async with broker.listening(places), anyio.create_task_group() as group:
        group.start_soon(broker.serve)
        broker.register_generation_zero(ZERO, ZERO)
        yield Site(broker, {node: ours for node, (ours, _) in pairs.items()})
        group.cancel_scope.cancel()
    for ours, _ in pairs.values():
        ours.close()


async def test_a_caller_is_the_process_that_the_relay_attests() -> None:
    async with site() as it:
        assert (await it.connect("target", pid=20, start=200).ask())["type"] == "reply"
        (call,) = it.broker.record().calls
        assert (call.node, call.pid, call.start, call.generation) == ("target", 20, 200, 1)


async def test_generation_zero_is_recognised_on_its_own_node_only() -> None:
    async with site() as it:
        assert (await it.connect("default", pid=5, start=100).ask())["type"] == "reply"
        assert (await it.connect("target", pid=5, start=100).ask())["type"] == "reply"
        assert [call.generation for call in it.broker.record().calls] == [0, 1]


async def test_ancestors_come_with_the_packet() -> None:
    async with site() as it:
        await it.connect(pid=20, start=200, ancestors=((5, 100), (1, 0))).ask()
        await it.connect(pid=30, start=300, ancestors=((20, 200), (1, 0))).ask()
        found = it.broker.record().engines
        assert [(engine.generation, engine.descent) for engine in found[1:]] == [(1, "ancestry"), (2, "ancestry")]


@pytest.mark.parametrize("later", [{"pid": 21}, {"start": 201}], ids=["another pid", "the pid of a later process"])
async def test_a_change_of_sender_ends_the_connection(later: dict[str, int]) -> None:
    async with site() as it:
        peer = it.connect(pid=20, start=200)
        await peer.send(frame(CALL))
        question = await peer.receive()
        for name, value in later.items():
            setattr(peer, name, value)
        await peer.send(frame({"type": "proof", "value": proof(question)}))
        assert (await peer.receive())["type"] == "refused"
        assert await it.refusals() == ["sender_changed"]


async def test_an_ended_sender_is_not_served() -> None:
    async with site() as it:
        assert (await it.connect(pid=20, start=None).ask())["type"] == "refused"
        assert await it.incident() == ("unknown_sender", "default", 20)


async def test_an_unidentified_sender_is_not_served() -> None:
    async with site() as it:
        assert (await it.connect(pid=0, start=None).ask())["type"] == "refused"
        assert (await it.incident())[0] == "unknown_sender"


async def test_a_passed_descriptor_is_recorded_and_the_call_continues() -> None:
    async with site() as it:
        peer = it.connect()
        await peer.send(frame(CALL), passed=True)
        assert (await peer.receive())["type"] == "prove"
        assert await it.incident() == ("descriptor", "default", 20)


@pytest.mark.parametrize("packet", [b"x", b"\xff\xff\xff\xff{}", header(1, 1)[:9], b"\0\0\0\x02[]hello"])
async def test_an_invalid_packet_ends_its_own_connection_only(packet: bytes) -> None:
    async with site() as it:
        peer = it.connect()
        peer.packets.send(packet)
        assert (await peer.receive())["type"] == "refused"
        assert (await it.connect().ask())["type"] == "reply"


async def test_a_message_can_arrive_in_many_packets() -> None:
    async with site() as it:
        peer = it.connect()
        for byte in frame(CALL):
            await peer.send(bytes([byte]))
        assert (await peer.receive())["type"] == "prove"


async def test_an_announcement_without_a_connection_is_ignored() -> None:
    async with site() as it:
        it.relays["default"].send(json.dumps({"connector": 20}).encode())
        it.relays["default"].send(b"garbage")
        assert (await it.connect().ask())["type"] == "reply"


async def test_the_end_of_a_relay_affects_its_node_only() -> None:
    async with site() as it:
        it.relays["default"].close()
        await anyio.sleep(0.05)
        assert (await it.connect("target").ask())["type"] == "reply"


@pytest.mark.parametrize(("clock_lag", "generation"), [(1e9, 2), (0.0, 1)])
async def test_start_times_are_converted_from_the_clock_of_the_node(clock_lag: float, generation: int) -> None:
    async with site(clock_lag) as it:
        await it.connect(pid=20, start=2).ask()  # it receives code
        await it.connect(pid=30, start=1).ask()  # this one started later only if the node's clock began later
        assert it.broker.record().engines[-1].generation == generation


async def test_a_sender_identified_by_its_first_message_has_the_same_limit_of_connections() -> None:
    async with site() as it:
        peers = [it.connect(pid=20) for _ in range(CAPS.connections_per_sender + 3)]
        for peer in peers:
            await peer.send(frame(CALL))
        with anyio.fail_after(10):
            while it.broker.record().counters.get("refused_connections", 0) < 3:
                await anyio.sleep(0.01)
        assert (await it.connect(pid=21).ask())["type"] == "reply"
