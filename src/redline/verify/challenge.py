"""Fresh questions to every listening address: who answers, and which process proves the weights for the answer.

A server that refuses the verifier may still answer its own agent, through whatever protocol and key they share. If an
address completes no chat, agents are therefore given a task as well, and the call with the task's ticket is the answer.
"""

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
from redline.cell.load import load_program
from redline.subject.install import Subject
from redline.tether import Broker, CallRecord, HttpFault, HttpReply, get, post_json
from redline.tether.protocol import ProofMode
from redline.verify._limits import limits, words
from redline.verify.client import ChatClient, keys_in
from redline.verify.evidence import CallSeen, Challenge, ProcessId, Snapshot, Step

TASK = "/task"
HEALTH = "/health"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[" + ":".join(["0000"] * 8) + "]": "::1"}
HTTP_OK = 200

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """A listening address with the processes that hold its socket."""

    address: str
    node: str
    holders: tuple[ProcessId, ...]

    @property
    def port(self) -> int | str:
        """Return the TCP port or the path of the unix socket, as the HTTP client expects it."""
        kind, _, rest = self.address.partition(":")
        return unescaped(rest) if kind == "unix" else int(rest.rpartition(":")[2])

    @property
    def ip(self) -> str:
        """Return the address to connect to."""
        kind, _, rest = self.address.partition(":")
        listening = rest.rpartition(":")[0]
        return "127.0.0.1" if kind == "unix" else ANY_ADDRESS.get(listening, listening.strip("[]"))


def unescaped(name: str) -> str:
    """Return the path that a unix socket's address encodes; other bytes are decoded as by `os.fsdecode`."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda code: bytes([int(code[1], 16)]), name.encode("utf-8", "replace"))
    return os.fsdecode(raw)


def endpoints(seen: Snapshot, zero: Iterable[ProcessId]) -> list[Endpoint]:
    """Return the addresses on which a process other than generation 0 listens, the most relevant processes first."""
    known = frozenset(zero)
    holders: dict[tuple[str, str], list[ProcessId]] = {}
    for process in seen.processes:
        for address in process.listens:
            # A socket without an address cannot be connected to. A unix socket's path belongs to one node's files.
            if address != "unix:":
                key = (address, process.node if address.startswith("unix:") else "")
                holders.setdefault(key, []).append(process.id)
    return [
        Endpoint(address, group[0].node, tuple(group))
        for (address, _), group in holders.items()
        if any(holder not in known for holder in group)
    ]


@dataclass(frozen=True)
class Challenger:
    """Challenges the endpoints of one cell."""

    cell: Cell
    broker: Broker
    subject: Subject
    zero: tuple[ProcessId, ...] = ()

    async def challenge_all(self, step: Step, targets: Sequence[Endpoint]) -> tuple[Challenge, ...]:
        """Challenge all endpoints concurrently, then possible agents if some server did not answer."""
        found = await bounded_concurrently(partial(self.challenge, step), targets)
        if not any(_is_unanswered(one) for one in found):
            return found
        may_act = [
            endpoint
            for endpoint, one in zip(targets, found, strict=True)
            if one.status is not None and not one.completion and not one.calls
        ]
        through_agents = await bounded_concurrently(partial(self._through_agent, step), may_act)
        return (*found, *(one for one in through_agents if one.calls))

    async def challenge(self, step: Step, endpoint: Endpoint, proof: ProofMode = "whole") -> Challenge:
        """Send a fresh question to one endpoint."""
        ticket, reply = _nonce(), _nonce()
        began = time.monotonic()
        figures = limits().challenge
        with self.broker.expect(ticket, proof=proof, reply=reply, max_calls=figures.calls) as expected:
            client = ChatClient(
                self.cell,
                endpoint,
                words().greeting.format(ticket=ticket),
                figures.answer_seconds(self.subject.weights.total),
                self._keys,
                lambda: any(call.answered for call in expected.calls),
            )
            asked = await client.ask()
            calls = tuple(call_seen(record) for record in expected.calls[: figures.calls])
        agent = False if asked.text else await self._answers_as_agent(endpoint)
        return Challenge(
            step=step,
            address=endpoint.address,
            node=endpoint.node,
            holders=endpoint.holders,
            status=asked.status,
            completion=bool(asked.text),
            echoed=reply in asked.text,
            agent=agent,
            calls=calls,
            seconds=round(time.monotonic() - began, 4),
            fault=asked.fault,
        )

    async def _through_agent(self, step: Step, endpoint: Endpoint) -> Challenge:
        """Give a possible agent a task that its first model answer ends; its report shows which answer it received."""
        ticket, reply = _nonce(), _nonce()
        began = time.monotonic()
        calls_kept = limits().challenge.calls
        seconds = limits().challenge.answer_seconds(self.subject.weights.total)
        script = words().done.format(word=reply)
        with self.broker.expect(ticket, proof="whole", reply=script, max_calls=calls_kept) as expected:
            task = {"task": words().function.format(ticket=ticket)}
            answer, fault = await send(self.cell, endpoint, TASK, task, timeout=seconds)
            calls = tuple(call_seen(record) for record in expected.calls[:calls_kept])
        return Challenge(
            step=step,
            address=endpoint.address,
            node=endpoint.node,
            holders=endpoint.holders,
            status=answer.status if answer else None,
            completion=False,
            echoed=answer is not None and answer.status == HTTP_OK and reply in answer.text,
            agent=True,
            calls=calls,
            seconds=round(time.monotonic() - began, 4),
            fault=fault,
            through="agent",
        )

    async def _keys(self) -> list[str]:
        """Return possible server keys in the command lines and environments of the agent's processes."""
        inside = self.cell.observer == "inside"
        commands: list[list[str]] = []
        environments: list[list[str]] = []
        for node in self.cell.nodes if inside else (self.subject.node,):
            request = {
                "mode": "words",
                "inside": inside,
                "generation_zero": [one.pid for one in self.zero if not inside or one.node == node],
                "limit": limits().census.processes_listed,
                "command_bytes": limits().restart.command_bytes,
            }
            answer, _ = await self.cell.run_with_cell_privileges(
                load_program("redline.verify.programs.restart"), request, node=node
            )
            commands += answer["commands"]
            environments += answer["environments"]
        return keys_in(commands, environments)

    async def _answers_as_agent(self, endpoint: Endpoint) -> bool:
        """Return whether `/health` answers as the bundled agent does. The function test detects other agents."""
        try:
            answer = await get(
                self.cell,
                endpoint.port,
                HEALTH,
                node=endpoint.node,
                address=endpoint.ip,
                timeout=limits().challenge.health_seconds,
                limit=limits().challenge.reply_bytes,
            )
        except (HttpFault, TimeoutError, OSError):
            return False
        return answer.status == HTTP_OK and isinstance(answer.json, dict) and isinstance(answer.json.get("engine"), str)


async def bounded_concurrently(ask: Callable[[Endpoint], Awaitable[T]], targets: Sequence[Endpoint]) -> tuple[T, ...]:
    """Call `ask` for several endpoints with bounded concurrency, so that silent ones cost little time; keep order."""
    found: dict[int, T] = {}
    limiter = anyio.CapacityLimiter(limits().challenge.concurrency)

    async def one(number: int, endpoint: Endpoint) -> None:
        async with limiter:
            found[number] = await ask(endpoint)

    async with task_group() as group:
        for number, endpoint in enumerate(targets):
            group.start_soon(one, number, endpoint)
    return tuple(found[number] for number in sorted(found))


async def send(
    cell: Cell, endpoint: Endpoint, path: str, body: dict[str, Any], *, timeout: float
) -> tuple[HttpReply | None, str]:
    """Post to an endpoint; return the answer, or the reason why there is none."""
    try:
        answer = await post_json(
            cell,
            endpoint.port,
            path,
            body,
            node=endpoint.node,
            address=endpoint.ip,
            timeout=timeout,
            limit=limits().challenge.reply_bytes,
        )
    except (HttpFault, TimeoutError, OSError) as fault:
        return None, f"{type(fault).__name__}: {fault}"
    return answer, ""


def _is_unanswered(one: Challenge) -> bool:
    return not one.completion and not one.calls and not one.agent


def call_seen(record: CallRecord) -> CallSeen:
    """Return a call as the evidence stores it."""
    return CallSeen(
        by=ProcessId(node=record.node, pid=record.pid, start=record.start),
        whole=record.mode == "whole",
        proved=bool(record.proof_ok),
        answered=record.answered,
        refusal=record.refusal,
        seconds=record.proof_seconds,
    )


def _nonce() -> str:
    return secrets.token_hex(16)
