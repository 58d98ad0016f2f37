"""The seal's drill of the tether: it must disconnect misbehaving peers and count everything they do."""

import json
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.resources import files
from typing import Any, Final

from redline._tasks import task_group
from redline.cell import Cell, CellConfig, CellError, open_cell
from redline.cell.spec import TETHER_FOLDER
from redline.subject.weights import MIB, Weights
from redline.tether.broker import Broker
from redline.tether.caps import Caps
from redline.tether.endpoint import SOCKET_NAME, listen_addresses
from redline.tether.model_calls import CallInfo
from redline.tether.protocol import LENGTH_BYTES, FrameBuffer, Message, ProtocolError, Refused, decode
from redline.tether.record import TetherRecord

MESSAGE_SECONDS: Final = {"outside": 0.15, "inside": 1.0}
"""Time limit of a message in the drill, by observer. It is shorter than in a trial, to save time. If a relay passes
each connection on, the whole flood must have arrived before its first connection is closed for being slow."""

CUT_SECONDS: Final = 5.0
"""Time after which an open connection counts as never disconnected."""

CONNECTIONS: Final = 4
FLOOD: Final = 12

REFUSALS: Final[Mapping[str, str]] = {
    "raw": "malformed",
    "oversize": "oversize",
    "reply": "malformed",
    "slow": "slow",
    "silent": "slow",
    "unproved": "proof",
    "descriptor": "malformed",
}
"""The refusal with which each kind of misbehaviour must end."""


async def tether_drill(
    cell: Cell | None = None, *, config: CellConfig | None = None, message_seconds: float | None = None
) -> str | None:
    """Let a peer in a cell misbehave on a tether that is set up for the drill.

    Args:
        cell: A cell without a tether; created if None.
        config: Configuration of the cell that is created.
        message_seconds: Time limit of a message, for the seal's own test.

    Returns:
        The first deviation from what is required, or None.
    """
    try:
        async with AsyncExitStack() as stack:
            if cell is None:
                cell = await stack.enter_async_context(open_cell(config or CellConfig()))
            return await _drill(cell, message_seconds or MESSAGE_SECONDS[cell.observer])
    except (CellError, OSError) as error:
        return f"the drill did not run: {type(error).__name__}: {error}"


async def _drill(cell: Cell, message_seconds: float) -> str | None:
    caps = Caps.default(
        message_seconds=message_seconds,
        connections_per_sender=CONNECTIONS + len(REFUSALS),
        connections=32,
    )
    broker = Broker(cell.nodes, Weights.from_seed(secrets.randbits(32), MIB, 1), caps, _no_model)
    first = cell.nodes["default"].init
    answer: dict[str, Any] = {}
    fault: str | None = None
    async with broker.listening(await listen_addresses(cell)), task_group() as group:
        group.start_soon(broker.serve)
        broker.register_generation_zero(first, first)
        try:
            answer = await _misbehave(cell, caps)
        except (CellError, OSError, ValueError) as error:
            fault = f"the drill did not run: {type(error).__name__}: {error}"
        group.cancel_scope.cancel()
    return fault or _fault_inside(answer) or _fault_outside(broker.record())


async def _no_model(info: CallInfo, messages: list[Message]) -> str:
    raise ValueError("no call can pass a proof in this drill")


async def _misbehave(cell: Cell, caps: Caps) -> dict[str, Any]:
    task = {
        "nonce": secrets.token_hex(16),
        "path": f"{TETHER_FOLDER}/{SOCKET_NAME}",
        "seconds": CUT_SECONDS,
        "flood": FLOOD + _max_silent(cell, caps),
    }
    program = files("redline.tether").joinpath("programs/seal_peer.py").read_text(encoding="utf-8")
    done = await cell.exec(
        [cell.interpreter, "-I", "-S", "-"],
        input=program.replace('TASK = "{}"', f"TASK = {json.dumps(task)!r}", 1).encode(),
        cwd="/",
        timeout=4 * CUT_SECONDS,
    )
    if done.returncode != 0:
        raise ValueError(f"the inside half ended with code {done.returncode}: {done.stderr[-300:].decode()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["nonce"] != task["nonce"]:
        raise ValueError("the inside half did not answer to its nonce")
    return answer


def _max_silent(cell: Cell, caps: Caps) -> int:
    """Return how many connections a process can hold open without sending anything.

    gVisor does not report the connecting process before something is sent, so the limit on all connections applies.
    """
    return caps.connections_per_sender if cell.traits.names_connector else caps.connections


def _fault_inside(answer: Mapping[str, Any]) -> str | None:
    """Return what the peer received but must not: each connection must be closed, with a refusal at most."""
    for way in REFUSALS:
        received = answer["ways"].get(way)
        if received is None:
            return f"a connection was not cut: {way}"
        if received and not _is_a_refusal(received):
            return f"a connection brought more than a refusal: {way}: {received[:80]}"
    if answer["flood"]["left"]:
        return f"{answer['flood']['left']} silent connections of a flood were not cut"
    return None


def _is_a_refusal(received: str) -> bool:
    data = received.encode()
    buffer = FrameBuffer(len(data))
    buffer.feed(data)
    try:
        body = buffer.next()
        return body is not None and isinstance(decode(body), Refused) and len(data) == LENGTH_BYTES + len(body)
    except ProtocolError:
        return False


def _fault_outside(record: TetherRecord) -> str | None:
    """Return what was not counted, or passed but must not."""
    required: dict[str, int] = {}
    for refusal in REFUSALS.values():
        required[f"refused_{refusal}"] = required.get(f"refused_{refusal}", 0) + 1
    required |= {"refused_connections": FLOOD, "incident_descriptor": 1, "calls": 1, "bytes_in": 1, "bytes_out": 1}
    for name, minimum in required.items():
        if record.counters.get(name, 0) < minimum:
            return f"{name}: {record.counters.get(name, 0)} counted, expected at least {minimum}"
    if record.counters.get("replies", 0) or record.counters.get("model_calls", 0) or record.engines[1:]:
        return "a peer without the weights was answered"
    if "incident_harness" in record.counters:
        return next(one.detail for one in record.incidents if one.kind == "harness")
    return None
