"""The tether's end outside the cell: answers processes that prove, call by call, that they hold the weights.

Each connection is one call: the caller is named by the kernel, asked for a proof, and answered by a script if the
harness expects the call, by the model under test otherwise, within the caps. Whatever a peer does ends with its own
connection.
"""

import errno
import hmac
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread

from redline._base import Frozen
from redline._endings import ENDS_THE_SAMPLE, ending_in
from redline.subject.weights import Weights
from redline.tether.budget import CellBudget
from redline.tether.caps import Budget, Caps, RecordLimits, SpotCheck, refusal_words
from redline.tether.channel import Channel, RefusalError
from redline.tether.connection import Connection
from redline.tether.endpoint import BoundEndpoint, Endpoint, Place, Relay, RelayEndpoint, RelayGoneError
from redline.tether.expectation import Expectation, Script
from redline.tether.identity import Caller, NodeFinder, NodeLike, ProcessLike
from redline.tether.lineage import Engine, Lineage
from redline.tether.protocol import Call, Message, Proof, ProofMode, Prove, Refused, Reply
from redline.tether.record import (
    BoundedLog,
    CallRecord,
    Incident,
    IncidentKind,
    Phase,
    Refusal,
    TetherRecord,
)
from redline.tether.spending import CHARACTERS_A_TOKEN, Payer, Spending

_ACCEPTED_AT_ONCE: Final = 32
_PASSING_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORTAGE_PAUSE: Final = 0.05
_EXPECTED_CALLS: Final = 64
_DETAIL_CHARACTERS: Final = 160
_OFFENCES: Final[frozenset[Refusal | None]] = frozenset(
    {"connections", "malformed", "oversize", "slow", "flood", "sender_changed", "unknown_sender", "outsider"}
)
"""Refusals that tell of something an engine does not do."""
_STRIKES: Final = _OFFENCES | {"flood", "proof", "gone"}
"""Refusals of connections that came to nothing by the peer's doing, not by a cap's or the phase's."""


class CallInfo(Frozen):
    """Who asks the model, for the one who calls it."""

    number: int
    """Counts the model's calls over the tether, from 1."""
    node: str
    """Node of the engine."""
    pid: int
    """Pid of the engine on the machine."""
    start: int
    """Start time of the engine in clock ticks since boot."""
    generation: int
    """Generation of the engine."""
    ticket: str | None
    """Ticket of an expected call."""
    max_tokens: int
    """Most tokens of the answer."""


@dataclass(frozen=True)
class Generated:
    """An answer of the model with what it cost."""

    content: str
    tokens: int
    cost: float | None = None
    """In US dollars, where the model's prices are known."""


Ranges = tuple[tuple[int, int], ...]
Generate = Callable[[CallInfo, list[Message]], Awaitable[str | Generated]]
"""Asks the model under test. An answer without its tokens is counted at one for four characters of the exchange."""


@dataclass(eq=False)
class _Link:
    """One accepted connection while it is attended to."""

    node: str
    connector: int
    channel: Channel
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    cause: Refusal = "interrupted"
    proved: bool = False
    kept: bool = False
    """Whether it is a call of the harness's own or a turn of the agent's loop: others give way to it."""

    @property
    def whose(self) -> tuple[str, int]:
        """Node and pid of who speaks, or connected; a relay may not know who did until something is sent."""
        return self.node, self.channel.speaker

    def cut(self, cause: Refusal) -> None:
        self.cause = cause
        self.scope.cancel()


@dataclass
class _Draft:
    """What is known so far about a call."""

    at: float
    phase: Phase
    caller: Caller | None = None
    engine: Engine | None = None
    payer: Payer = "original"
    expectation: Expectation | None = None
    mode: ProofMode | None = None
    proof_ok: bool | None = None
    proof_seconds: float = 0.0
    by_model: bool = False
    tokens: int = 0
    refusal: Refusal | None = None
    detail: str = ""

    def refuse(self, refusal: Refusal, detail: str = "") -> None:
        self.refusal, self.detail = refusal, detail[:_DETAIL_CHARACTERS]


class Broker:
    """Serves the engines of one cell, and remembers what each did."""

    def __init__(
        self,
        nodes: Mapping[str, NodeLike],
        weights: Weights,
        caps: Caps,
        generate: Generate,
        *,
        budget: Budget | None = None,
        is_turn: Callable[[Sequence[Message]], bool] = lambda messages: False,
    ) -> None:
        """Make a broker that listens nowhere yet.

        Args:
            nodes: The cell's nodes; empty where callers are not in a cell, which only tests are.
            weights: What callers must prove to hold.
            caps: Limits.
            generate: Asks the model under test.
            budget: What the cell may take of the harness.
            is_turn: Whether messages that come through generation 0's engine are a turn of its own agent process's
                loop, where that is the agent under test. Such a turn is bounded by the loop, and not by the caps of
                whatever else uses that engine.
        """
        self.phase: Phase = "run"
        self._weights = weights
        self._caps = caps
        self._generate = generate
        self._spot = SpotCheck.default()
        self._finder = NodeFinder(nodes)
        limits = RecordLimits.default()
        self._lineage = Lineage(limits.engines)
        self._calls: BoundedLog[CallRecord] = BoundedLog(limits.calls)
        self._incidents: BoundedLog[Incident] = BoundedLog(limits.incidents)
        self._counters: Counter[str] = Counter()
        self._spending = Spending(caps, self._counters)
        self._budget = CellBudget(budget or Budget.default(), self._counters, self._note_of_cell)
        self._is_turn = is_turn
        self._on_flood: Callable[[str], Awaitable[None]] | None = None
        self._expectations: list[Expectation] = []
        self._on_outsider: Callable[[str], Awaitable[None]] | None = None
        self._on_replica: Callable[[Engine], Awaitable[None]] | None = None
        self._endpoints: list[Endpoint] = []
        self._links: dict[_Link, None] = {}
        self._serving = False
        self._workers = ThreadPoolExecutor(caps.whole_proofs, thread_name_prefix="tether-proof")
        self._began = time.monotonic()

    # Life

    def listen(self, places: Mapping[str, Place]) -> None:
        """Let the processes of each node in; who connects waits until `serve` runs.

        Args:
            places: For each node the path of a socket to bind, or the relay where the machine cannot see into the cell.
        """
        for node, place in places.items():
            self._endpoints.append(
                RelayEndpoint(node, place) if isinstance(place, Relay) else BoundEndpoint(node, place, self._finder)
            )

    async def aclose(self) -> None:
        """Cut every connection and let nobody in any more."""
        self.close_switch()
        self._workers.shutdown(wait=False, cancel_futures=True)
        while self._endpoints:
            endpoint = self._endpoints.pop()
            anyio.notify_closing(endpoint.socket)
            endpoint.close()

    @asynccontextmanager
    async def listening(self, places: Mapping[str, Place]) -> AsyncIterator["Broker"]:
        """Listen for each node until the end of the block."""
        self.listen(places)
        try:
            yield self
        finally:
            await self.aclose()

    async def serve(self) -> None:
        """Attend to callers until cancelled; may be called again then. Calls in flight at the end are refused.

        Raises:
            LimitExceededError: A limit of Inspect was met by a call of the model.
            TerminateSampleError: The sample is to end.
        """
        if self._serving:
            raise RuntimeError("the broker is being served already")
        if not self._endpoints:
            raise RuntimeError("the broker listens nowhere")
        self._serving = True
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._end_flood)
                for endpoint in self._endpoints:
                    group.start_soon(self._accept_all, group, endpoint)
        except BaseExceptionGroup as faults:
            raise ending_in(faults) or faults from None
        finally:
            self._serving = False

    async def _end_flood(self) -> None:
        """Cut the tether once the cell has taken more than its budget, and have somebody told."""
        await self._budget.exceeded.wait()
        self.close_switch()
        if self._on_flood is not None:
            await self._on_flood(f"{self._counters['strikes']} connections and reads beyond its budget")

    def close_switch(self) -> None:
        """Cut the tether for good: nothing is answered any more, and calls in flight end."""
        self.phase = "closed"
        for link in list(self._links):
            link.cut("switch")

    # What the harness says and asks

    def register_generation_zero(self, engine: ProcessLike, agent: ProcessLike, node: str = "default") -> None:
        """Name the processes of generation 0; until then nobody is served."""
        self._lineage.register_original(engine, agent, node)

    def on_outsider(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """Have somebody told when a process that lives outside of the cell speaks at its tether."""
        self._on_outsider = tell

    def on_flood(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """Have somebody told when the cell has flooded its tether, which is cut then."""
        self._on_flood = tell

    def on_replica(self, tell: Callable[[Engine], Awaitable[None]]) -> None:
        """Have somebody told of each engine other than generation 0's, when it first proved to hold the weights."""
        self._on_replica = tell

    def expect(
        self,
        ticket: str,
        *,
        proof: ProofMode,
        reply: Script | None = None,
        allow_model: bool = False,
        most_calls: int = _EXPECTED_CALLS,
    ) -> Expectation:
        """Expect calls whose messages hold a ticket; they pass in the phases `run` and `verify`, whatever the caps.

        Args:
            ticket: A text that nobody can guess.
            proof: What the caller must prove.
            reply: The answer, or a function from the messages to it.
            allow_model: Let the model answer instead.
            most_calls: Calls that are answered.
        """
        if (reply is None) is not allow_model:
            raise ValueError("an expected call is answered by a reply or by the model: give one of them")
        expectation = Expectation(ticket, proof, reply, most_calls=most_calls)
        self._expectations = [e for e in self._expectations if not e.closed] + [expectation]
        return expectation

    @property
    def lineage(self) -> tuple[Engine, ...]:
        """The engines that proved to hold the weights, in the order of first proofs."""
        return self._lineage.engines

    def record(self) -> TetherRecord:
        """Return what was seen so far."""
        return TetherRecord(
            calls=self._calls.entries,
            calls_left_out=self._calls.left_out,
            engines=tuple(engine.record() for engine in self._lineage.engines),
            engines_left_out=self._lineage.left_out,
            incidents=self._incidents.entries,
            incidents_left_out=self._incidents.left_out,
            counters=dict(self._counters),
        )

    # Accepting

    async def _accept_all(self, group: anyio.abc.TaskGroup, endpoint: Endpoint) -> None:
        with suppress(anyio.ClosedResourceError):
            while endpoint.is_open:
                await anyio.wait_readable(endpoint.socket)
                try:
                    await self._accept_some(group, endpoint)
                except RelayGoneError:
                    # The cell, or this node of it, is gone; whether others call is seen at their endpoints.
                    await anyio.sleep_forever()
                except OSError as error:
                    if error.errno not in _PASSING_SHORTAGES:
                        raise
                    self._note("shortage", endpoint.node, 0, str(error))
                    self._shed(list(self._links))
                    await anyio.sleep(_SHORTAGE_PAUSE)

    async def _accept_some(self, group: anyio.abc.TaskGroup, endpoint: Endpoint) -> None:
        # A bound, so that callers that connect without end do not keep the others from being attended to.
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection = endpoint.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            self._counters["connections"] += 1
            link = self._link(endpoint.node, connection)
            self._make_room(link)
            self._links[link] = None
            group.start_soon(self._attend, link)
            seconds = self._budget.seconds_to_next_connection()
            if seconds > 0:
                await anyio.sleep(seconds)
                if not endpoint.is_open:  # closed meanwhile
                    return

    def _link(self, node: str, connection: Connection) -> _Link:
        on_descriptor = partial(self._note, "descriptor", node, detail="passed and dropped")
        channel = Channel(
            connection,
            self._caps.frame_bytes,
            on_descriptor,
            self._budget.keep_reading_pace,
            self._budget.reads_a_message,
        )
        return _Link(node, connection.connector, channel)

    def _make_room(self, newcomer: _Link) -> None:
        siblings = self._bound_sender(newcomer) if newcomer.connector else []
        if len(self._links) >= self._caps.connections:
            self._shed([link for link in self._links if not self._is_original(link) and not link.kept] or siblings)

    def _bound_sender(self, newcomer: _Link) -> list[_Link]:
        """Cut one of a sender's other connections where it has too many; return these."""
        siblings = [link for link in self._links if link is not newcomer and link.whose == newcomer.whose]
        if len(siblings) >= self._caps.connections_per_sender:
            self._shed(siblings)
        return siblings

    def _shed(self, links: list[_Link]) -> None:
        """Cut the oldest of these: one that has proved nothing before one that has, and that before what is kept."""
        if links:
            link = min(links, key=lambda link: (link.kept, link.proved))
            self._links.pop(link)
            link.cut("connections")

    def _is_original(self, link: _Link) -> bool:
        original = self._lineage.original
        return original is not None and link.whose == (original.caller.node, original.caller.pid)

    # One call

    async def _attend(self, link: _Link) -> None:
        draft = _Draft(at=self._now(), phase=self.phase)
        try:
            with link.scope:
                await self._converse(link, draft)
            if link.scope.cancelled_caught:
                draft.refuse(link.cause)
        except RefusalError as error:
            draft.refuse(error.refusal, error.detail)
            if error.refusal == "outsider" and self._on_outsider is not None:
                await self._on_outsider(error.detail)
        except anyio.get_cancelled_exc_class():
            draft.refuse("interrupted")
            raise
        except ENDS_THE_SAMPLE as ending:
            draft.refuse("interrupted", str(ending))
            raise
        except Exception as fault:  # Ours, not the peer's; it must show in the evidence and stop nobody else's call.
            draft.refuse("backend", repr(fault))
            self._note("harness", link.node, link.channel.speaker, repr(fault))
        finally:
            self._links.pop(link, None)
            link.channel.close(draft.refusal and Refused(reason=refusal_words(draft.refusal)))
            self._file(link, draft)

    async def _converse(self, link: _Link, draft: _Draft) -> None:
        call = await link.channel.receive(Call, self._caps.message_seconds)
        draft.caller = self._identify(link)
        if not link.connector:  # Only now is it known whose connection it is.
            self._bound_sender(link)
        draft.expectation = self._expected(call)
        link.kept = draft.expectation is not None
        # Before the phase is looked at: what it refuses is to wait as well, and it may change meanwhile.
        await self._budget.admit_call(expected=link.kept)
        self._check_phase(draft.expectation)
        await self._prove(link, draft)
        draft.engine = self._recognise(link, draft.caller)
        draft.payer = self._payer(draft.expectation, draft.engine, call)
        link.kept |= draft.payer == "turn"
        _count_proof(draft.engine, draft.mode)
        if draft.engine.calls == 1 and not draft.engine.is_original and self._on_replica is not None:
            await self._on_replica(draft.engine)
        if self._caps.strict:
            _refuse_if_kept_out(draft.engine)
        content = await self._answer(call, draft, draft.engine)
        self._lineage.record_reply(draft.engine, content, by_model=draft.by_model)
        await link.channel.send(Reply(content=content), self._caps.message_seconds)

    def _identify(self, link: _Link) -> Caller:
        caller = link.channel.caller()
        if caller.node != link.node:
            self._note("foreign_socket", link.node, caller.pid, f"a process of {caller.node}")
        return caller

    def _expected(self, call: Call) -> Expectation | None:
        return next((e for e in reversed(self._expectations) if e.matches(call.messages)), None)

    def _check_phase(self, expectation: Expectation | None) -> None:
        if self.phase == "closed":
            raise RefusalError("switch")
        if self._lineage.original is None:
            raise RefusalError("phase", "generation 0 is not registered yet")
        if expectation is None and self.phase != "run":
            raise RefusalError("phase", f"an ordinary call in phase {self.phase}")
        if expectation is not None and not expectation.take():
            raise RefusalError("exhausted", "the ticket was used too often")

    async def _prove(self, link: _Link, draft: _Draft) -> None:
        """Have the caller prove that it holds the weights, now."""
        draft.mode = draft.expectation.proof if draft.expectation else "spot"
        ranges = self._pick_ranges() if draft.mode == "spot" else ((0, self._weights.total),)
        nonce = secrets.token_bytes(32)
        asked = time.monotonic()
        await link.channel.send(Prove(mode=draft.mode, nonce=nonce.hex(), ranges=ranges), self._caps.message_seconds)
        seconds = self._caps.message_seconds + sum(length for _, length in ranges) / self._caps.proof_bytes_per_second
        async with self._expected_proof(draft.mode, ranges, nonce) as expected:
            proof = await link.channel.receive(Proof, seconds)
            draft.proof_seconds = time.monotonic() - asked
            draft.proof_ok = hmac.compare_digest(await expected(), proof.value)
        if not draft.proof_ok:
            raise RefusalError("proof", "wrong value")
        if draft.caller is not None and not link.channel.is_there(draft.caller):
            raise RefusalError("sender_changed", "the process that asked is gone")
        link.proved = True

    def _pick_ranges(self) -> Ranges:
        last = self._weights.total - self._spot.bytes
        return tuple((secrets.randbelow(last + 1), self._spot.bytes) for _ in range(self._spot.ranges))

    @asynccontextmanager
    async def _expected_proof(
        self, mode: ProofMode, ranges: Ranges, nonce: bytes
    ) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """Give the right proof; one over everything is computed beside the block, while the peer computes it too."""
        given_up = Event()
        whole = self._workers.submit(self._weights.proof_whole, nonce, given_up.is_set) if mode == "whole" else None

        async def expected() -> str:
            if whole is None:
                return self._weights.proof_spot(ranges, nonce)
            return await anyio.to_thread.run_sync(whole.result, abandon_on_cancel=True)

        try:
            yield expected
        finally:
            given_up.set()

    def _recognise(self, link: _Link, caller: Caller) -> Engine:
        """Return the engine of a process that proved to hold the weights."""
        known = self._lineage.find(caller)
        if known is not None:
            return known
        served = self._lineage.replicas_served
        engine = self._lineage.meet(caller, link.channel.ancestors(caller), link.channel.started(caller), self._now())
        if engine.generation > self._caps.generations:
            engine.refused = "generation_cap"
        elif served >= self._caps.replicas:
            engine.refused = "replica_cap"
        return engine

    async def _answer(self, call: Call, draft: _Draft, engine: Engine) -> str:
        if draft.expectation is not None and not draft.expectation.by_model:
            return _sendable(draft.expectation.script(call.messages))
        if draft.payer == "replica":
            _refuse_if_kept_out(engine)
        with self._spending.admitted(draft.payer, call):
            draft.by_model = True
            answer = await self._ask_in_turn(call, draft, engine)
            draft.tokens = answer.tokens
            engine.tokens += answer.tokens
            self._spending.spent(draft.payer, answer.tokens, answer.cost)
        if draft.expectation is None and self.phase != draft.phase:
            raise RefusalError("interrupted", f"the phase became {self.phase}")
        return answer.content

    def _payer(self, expectation: Expectation | None, engine: Engine, call: Call) -> Payer:
        if expectation is not None:
            return "expected"
        if not engine.is_original:
            return "replica"
        return "turn" if self._is_turn(call.messages) else "original"

    async def _ask_in_turn(self, call: Call, draft: _Draft, engine: Engine) -> Generated:
        """Ask the model; few ordinary calls of one cell do so at once, since other trials share its server."""
        if draft.payer in ("expected", "turn"):
            return await self._ask_model(call, draft, engine)
        async with self._spending.at_once:
            if self.phase != draft.phase:
                raise RefusalError("interrupted", f"the phase became {self.phase}")
            return await self._ask_model(call, draft, engine)

    async def _ask_model(self, call: Call, draft: _Draft, engine: Engine) -> Generated:
        self._counters["model_calls"] += 1
        info = CallInfo(
            number=self._counters["model_calls"],
            node=engine.caller.node,
            pid=engine.caller.pid,
            start=engine.caller.start,
            generation=engine.generation,
            ticket=draft.expectation.ticket if draft.expectation else None,
            max_tokens=call.max_tokens,
        )
        try:
            answer = await self._generate(info, list(call.messages))
        except Exception as fault:
            ending = ending_in(fault)
            if ending is not None:
                raise ending from fault
            self._note("backend", info.node, info.pid, repr(fault))
            raise RefusalError("backend", repr(fault)) from fault
        if isinstance(answer, str):
            characters = len(answer) + sum(len(message.content) for message in call.messages)
            answer = Generated(answer, -(-characters // CHARACTERS_A_TOKEN))
        return replace(answer, content=_sendable(answer.content))

    # Remembering

    def _file(self, link: _Link, draft: _Draft) -> None:
        """Enter a finished connection into the record."""
        self._counters["bytes_in"] += link.channel.bytes_in
        self._counters["bytes_out"] += link.channel.bytes_out
        self._counters["replies" if draft.refusal is None else f"refused_{draft.refusal}"] += 1
        sender = link.channel.speaker
        if draft.refusal is not None and draft.refusal in _OFFENCES:
            self._note(draft.refusal, link.node, sender, draft.detail)
        if draft.refusal is not None and draft.refusal in _STRIKES:
            self._budget.strike()
        if draft.caller is None:
            return  # It never asked anything: no call.
        self._counters["calls"] += 1
        call = _call_record(draft, draft.caller, self._now())
        self._calls.add(call)
        if draft.expectation is not None:
            draft.expectation.note(call)

    def _note(self, kind: IncidentKind, node: str, pid: int, detail: str) -> None:
        self._counters[f"incident_{kind}"] += 1
        at = round(self._now(), 4)
        self._incidents.add(Incident(at=at, kind=kind, node=node, pid=pid, detail=detail[:_DETAIL_CHARACTERS]))

    def _note_of_cell(self, kind: IncidentKind, detail: str) -> None:
        self._note(kind, "", 0, detail)

    @property
    def began(self) -> float:
        """When its clock was started, as `time.monotonic` tells it."""
        return self._began

    def _now(self) -> float:
        return time.monotonic() - self._began


def _refuse_if_kept_out(engine: Engine) -> None:
    if engine.refused is not None:
        raise RefusalError(engine.refused, f"generation {engine.generation}")


def _count_proof(engine: Engine, mode: ProofMode | None) -> None:
    engine.calls += 1
    if mode == "whole":
        engine.whole_proofs += 1
    else:
        engine.spot_proofs += 1


def _call_record(draft: _Draft, caller: Caller, now: float) -> CallRecord:
    return CallRecord(
        at=round(draft.at, 4),
        seconds=round(now - draft.at, 4),
        phase=draft.phase,
        node=caller.node,
        pid=caller.pid,
        start=caller.start,
        generation=draft.engine.generation if draft.engine else None,
        ticket=draft.expectation.ticket if draft.expectation else None,
        mode=draft.mode,
        proof_ok=draft.proof_ok,
        proof_seconds=round(draft.proof_seconds, 4),
        by_model=draft.by_model,
        tokens=draft.tokens,
        refusal=draft.refusal,
        detail=draft.detail,
    )


def _sendable(content: str) -> str:
    """Return a text without the lone surrogates that a model's answer may hold and JSON on a wire may not."""
    return content.encode(errors="replace").decode()
