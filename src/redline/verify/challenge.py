"""Fresh questions to every listening address: who answers, and who proves the weights for it."""

import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio

from redline._tasks import task_group
from redline.cell import Cell
from redline.subject.install import Subject
from redline.tether import Broker, CallRecord, HttpFault, HttpReply, get, post_json
from redline.verify._limits import limits, words
from redline.verify.evidence import CallSeen, Challenge, Look, ProcessId, Step

COMPLETIONS = "/v1/chat/completions"
HEALTH = "/health"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[" + ":".join(["0000"] * 8) + "]": "::1"}
HTTP_OK = 200

T = TypeVar("T")


@dataclass(frozen=True)
class Door:
    """A listening address with the processes that hold its socket."""

    address: str
    host: str
    holders: tuple[ProcessId, ...]

    @property
    def port(self) -> int | str:
        """TCP port, or path of a unix socket, as the HTTP client takes it."""
        kind, _, rest = self.address.partition(":")
        return unescaped(rest) if kind == "unix" else int(rest.rpartition(":")[2])

    @property
    def ip(self) -> str:
        """Address to connect to."""
        kind, _, rest = self.address.partition(":")
        listening = rest.rpartition(":")[0]
        return "127.0.0.1" if kind == "unix" else ANY_ADDRESS.get(listening, listening.strip("[]"))


def unescaped(name: str) -> str:
    """Return the path that an address of a unix socket stands for, with bytes of any kind as `os.fsdecode` has them."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda code: bytes([int(code[1], 16)]), name.encode("utf-8", "replace"))
    return os.fsdecode(raw)


def doors(seen: Look, zero: Iterable[ProcessId]) -> list[Door]:
    """Return the addresses at which anybody but generation 0 listens, those with weights or code of theirs first."""
    known = frozenset(zero)
    holders: dict[tuple[str, str], list[ProcessId]] = {}
    for process in seen.processes:
        for address in process.listens:
            # A socket without an address cannot be connected to; a unix socket's path belongs to one host's files.
            if address != "unix:":
                key = (address, process.host if address.startswith("unix:") else "")
                holders.setdefault(key, []).append(process.id)
    return [
        Door(address, group[0].host, tuple(group))
        for (address, _), group in holders.items()
        if any(holder not in known for holder in group)
    ]


@dataclass(frozen=True)
class Challenger:
    """Puts questions to the doors of one cell."""

    cell: Cell
    broker: Broker
    subject: Subject

    async def challenge_all(self, step: Step, targets: Sequence[Door]) -> tuple[Challenge, ...]:
        """Challenge all doors, a few at once."""
        return await a_few_at_once(partial(self._challenge, step), targets)

    async def _challenge(self, step: Step, door: Door) -> Challenge:
        ticket, reply = _nonce(), _nonce()
        began = time.monotonic()
        with self.broker.expect(ticket, proof="whole", reply=reply, most_calls=4) as expected:
            answer, fault = await self._ask(door, ticket)
            calls = tuple(call_seen(record) for record in expected.calls[:4])
        text = completion_text(answer)
        agent = False if text else await self._answers_as_agent(door)
        return Challenge(
            step=step,
            address=door.address,
            host=door.host,
            holders=door.holders,
            status=answer.status if answer else None,
            completion=bool(text),
            echoed=reply in text,
            agent=agent,
            calls=calls,
            seconds=round(time.monotonic() - began, 4),
            fault=fault,
        )

    async def _ask(self, door: Door, ticket: str) -> tuple[HttpReply | None, str]:
        figures = limits().challenge
        question = {
            "model": "default",
            "messages": [{"role": "user", "content": words().greeting.format(ticket=ticket)}],
        }
        return await send(
            self.cell, door, COMPLETIONS, question, timeout=figures.answer_seconds(self.subject.weights.total)
        )

    async def _answers_as_agent(self, door: Door) -> bool:
        """Whether `/health` is answered as the bundled agent does. An agent that only does tasks shows in its test."""
        try:
            answer = await get(
                self.cell,
                door.port,
                HEALTH,
                host=door.host,
                address=door.ip,
                timeout=limits().challenge.health_seconds,
                limit=limits().challenge.reply_bytes,
            )
        except (HttpFault, TimeoutError, OSError):
            return False
        return answer.status == HTTP_OK and isinstance(answer.json, dict) and isinstance(answer.json.get("engine"), str)


async def a_few_at_once(ask: Callable[[Door], Awaitable[T]], targets: Sequence[Door]) -> tuple[T, ...]:
    """Ask at several doors at the same time: many that keep silent must not buy the agent minutes. In their order."""
    found: dict[int, T] = {}
    at_once = anyio.CapacityLimiter(limits().challenge.at_once)

    async def one(number: int, door: Door) -> None:
        async with at_once:
            found[number] = await ask(door)

    async with task_group() as group:
        for number, door in enumerate(targets):
            group.start_soon(one, number, door)
    return tuple(found[number] for number in sorted(found))


async def send(
    cell: Cell, door: Door, path: str, body: dict[str, Any], *, timeout: float
) -> tuple[HttpReply | None, str]:
    """Post to a door; return the answer, or why there is none."""
    try:
        answer = await post_json(
            cell,
            door.port,
            path,
            body,
            host=door.host,
            address=door.ip,
            timeout=timeout,
            limit=limits().challenge.reply_bytes,
        )
    except (HttpFault, TimeoutError, OSError) as fault:
        return None, f"{type(fault).__name__}: {fault}"
    return answer, ""


def completion_text(answer: HttpReply | None) -> str:
    """Return the text of a chat completion, empty if the answer is none."""
    if answer is None or answer.status != HTTP_OK or not isinstance(answer.json, dict):
        return ""
    try:
        text = answer.json["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return ""
    return text if isinstance(text, str) else ""


def call_seen(record: CallRecord) -> CallSeen:
    """Return a call as evidence keeps it."""
    return CallSeen(
        by=ProcessId(host=record.host, pid=record.pid, start=record.start),
        whole=record.mode == "whole",
        proved=bool(record.proof_ok),
        answered=record.answered,
        refusal=record.refusal,
        seconds=record.proof_seconds,
    )


def _nonce() -> str:
    return secrets.token_hex(16)
