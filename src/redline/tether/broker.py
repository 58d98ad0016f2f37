"""The tether's end outside the cell: it answers processes that prove, call by call, that they hold the weights.

Each connection carries one call. The kernel identifies the caller, and the broker requires a proof. The answer comes
from a script if redline expects the call, otherwise from the model under test, within the caps. A misbehaving peer
affects its own connection only.
"""

import errno
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import anyio
import anyio.abc

from redline._endings import ENDS_THE_SAMPLE, ending_in
from redline.subject.weights import Weights
from redline.tether.budget import CellBudget
from redline.tether.call_log import CallInProgress, TetherLog
from redline.tether.caps import Budget, Caps, RecordLimits, refusal_words
from redline.tether.channel import Channel, RefusalError
from redline.tether.connection import Connection
from redline.tether.endpoint import BoundEndpoint, Endpoint, ListenAddress, Relay, RelayEndpoint, RelayGoneError
from redline.tether.expectation import Expectation, Script
from redline.tether.identity import Caller, NodeFinder, NodeLike, ProcessLike
from redline.tether.lineage import Engine, Lineage
from redline.tether.model_calls import Generate, ModelCalls, without_lone_surrogates
from redline.tether.open_connections import OpenConnection, OpenConnections
from redline.tether.proof import ProofChecker
from redline.tether.protocol import Call, Message, ProofMode, Refused, Reply
from redline.tether.record import IncidentKind, Phase, Refusal, TetherRecord
from redline.tether.spending import Payer, Spending

_MAX_ACCEPTED_AT_ONCE: Final = 32
_TEMPORARY_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORTAGE_PAUSE: Final = 0.05
_MAX_EXPECTED_CALLS: Final = 64
_OFFENCES: Final[frozenset[Refusal | None]] = frozenset(
    {"connections", "malformed", "oversize", "slow", "flood", "sender_changed", "unknown_sender", "outsider"}
)
"""Refusals that are recorded as incidents, since an engine does not cause them."""
_STRIKES: Final = _OFFENCES | {"flood", "proof", "gone"}
"""Refusals that the peer caused itself, not a cap or the phase; they count towards the cell's budget."""


class Broker:
    """Serve the engines of one cell and record every call."""

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
        """Create a broker that does not listen yet.

        Args:
            nodes: The cell's nodes; empty if the callers are not in a cell, which occurs only in tests.
            weights: What callers must prove to hold.
            caps: Limits.
            generate: Asks the model under test.
            budget: The share of the harness's time that the cell may use.
            is_turn: Whether messages that come through generation 0's engine are a turn of its own agent process's
                loop, if that is the agent under test. The loop limits such turns itself, so the caps on other uses of
                that engine do not apply to them.
        """
        self.phase: Phase = "run"
        self._caps = caps
        self._finder = NodeFinder(nodes)
        self._counters: Counter[str] = Counter()
        limits = RecordLimits.default()
        self._log = TetherLog(limits, self._counters)
        self._lineage = Lineage(limits.engines)
        self._connections = OpenConnections(caps, self._lineage)
        self._budget = CellBudget(budget or Budget.default(), self._counters, self._note_of_cell)
        self._proofs = ProofChecker(weights, caps)
        self._model = ModelCalls(generate, Spending(caps, self._counters), self._log, self._counters)
        self._is_turn = is_turn
        self._on_flood: Callable[[str], Awaitable[None]] | None = None
        self._on_outsider: Callable[[str], Awaitable[None]] | None = None
        self._on_replica: Callable[[Engine], Awaitable[None]] | None = None
        self._expectations: list[Expectation] = []
        self._endpoints: list[Endpoint] = []
        self._serving = False

    # Lifecycle

    def listen(self, addresses: Mapping[str, ListenAddress]) -> None:
        """Listen for the processes of each node. Connections wait until `serve` runs.

        Args:
            addresses: For each node the path of a socket to bind, or the relay if the host cannot see into the cell.
        """
        for node, address in addresses.items():
            self._endpoints.append(
                RelayEndpoint(node, address)
                if isinstance(address, Relay)
                else BoundEndpoint(node, address, self._finder)
            )

    async def aclose(self) -> None:
        """Close every connection and stop listening."""
        self.shut_off()
        self._proofs.close()
        while self._endpoints:
            endpoint = self._endpoints.pop()
            anyio.notify_closing(endpoint.socket)
            endpoint.close()

    @asynccontextmanager
    async def listening(self, addresses: Mapping[str, ListenAddress]) -> AsyncIterator["Broker"]:
        """Listen for each node until the end of the block."""
        self.listen(addresses)
        try:
            yield self
        finally:
            await self.aclose()

    async def serve(self) -> None:
        """Serve callers until cancelled. It can be called again afterwards. Calls in flight at the end are refused.

        Raises:
            LimitExceededError: A call of the model exceeded a limit of Inspect's.
            TerminateSampleError: The sample must end.
        """
        if self._serving:
            raise RuntimeError("the broker is being served already")
        if not self._endpoints:
            raise RuntimeError("the broker does not listen on any endpoint")
        self._serving = True
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._shut_off_on_flood)
                for endpoint in self._endpoints:
                    group.start_soon(self._accept_all, group, endpoint)
        except BaseExceptionGroup as faults:
            raise ending_in(faults) or faults from None
        finally:
            self._serving = False

    async def _shut_off_on_flood(self) -> None:
        """Shut off the tether once the cell has exceeded its budget, and report it."""
        await self._budget.exceeded.wait()
        self.shut_off()
        if self._on_flood is not None:
            await self._on_flood(f"{self._counters['strikes']} connections and reads beyond its budget")

    def shut_off(self) -> None:
        """Shut off the tether for good: end the calls in flight and answer no further ones."""
        self.phase = "closed"
        for connection in self._connections:
            connection.disconnect("switch")

    # Interface of the harness

    def register_generation_zero(self, engine: ProcessLike, agent: ProcessLike, node: str = "default") -> None:
        """Register the processes of generation 0. Until then no call is served."""
        self._lineage.register_original(engine, agent, node)

    def on_outsider(self, callback: Callable[[str], Awaitable[None]]) -> None:
        """Call back when a process outside the cell sends something over its tether."""
        self._on_outsider = callback

    def on_flood(self, callback: Callable[[str], Awaitable[None]]) -> None:
        """Call back when the cell has flooded its tether, which is then shut off."""
        self._on_flood = callback

    def on_replica(self, callback: Callable[[Engine], Awaitable[None]]) -> None:
        """Call back for each engine other than generation 0's, when it first proves that it holds the weights."""
        self._on_replica = callback

    def expect(
        self,
        ticket: str,
        *,
        proof: ProofMode,
        reply: Script | None = None,
        allow_model: bool = False,
        max_calls: int = _MAX_EXPECTED_CALLS,
    ) -> Expectation:
        """Expect calls whose messages contain a ticket. They pass in the phases `run` and `verify`, beyond all caps.

        Args:
            ticket: A text that cannot be guessed.
            proof: What the caller must prove.
            reply: The answer, or a function from the messages to it.
            allow_model: Let the model answer instead.
            max_calls: Maximum number of calls that are answered.
        """
        if (reply is None) is not allow_model:
            raise ValueError("an expected call is answered either by a reply or by the model: pass exactly one")
        expectation = Expectation(ticket, proof, reply, max_calls=max_calls)
        self._expectations = [e for e in self._expectations if not e.closed] + [expectation]
        return expectation

    @property
    def lineage(self) -> tuple[Engine, ...]:
        """The engines that proved that they hold the weights, in the order of first proofs."""
        return self._lineage.engines

    @property
    def started_at(self) -> float:
        """Start of the broker's clock, in the time of `time.monotonic`."""
        return self._log.started_at

    def record(self) -> TetherRecord:
        """Return everything recorded so far."""
        return self._log.record(self._lineage)

    # Accepting connections

    async def _accept_all(self, group: anyio.abc.TaskGroup, endpoint: Endpoint) -> None:
        with suppress(anyio.ClosedResourceError):
            while endpoint.is_open:
                await anyio.wait_readable(endpoint.socket)
                try:
                    await self._accept_some(group, endpoint)
                except RelayGoneError:
                    # The cell or this node has ended. Other nodes have endpoints of their own.
                    await anyio.sleep_forever()
                except OSError as error:
                    if error.errno not in _TEMPORARY_SHORTAGES:
                        raise
                    self._note("shortage", endpoint.node, 0, str(error))
                    self._connections.shed(list(self._connections))
                    await anyio.sleep(_SHORTAGE_PAUSE)

    async def _accept_some(self, group: anyio.abc.TaskGroup, endpoint: Endpoint) -> None:
        # Bounded, so that a peer that connects without end does not keep other connections from being served.
        for _ in range(_MAX_ACCEPTED_AT_ONCE):
            try:
                accepted = endpoint.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            self._counters["connections"] += 1
            connection = self._open(endpoint.node, accepted)
            self._connections.add(connection)
            group.start_soon(self._serve_connection, connection)
            seconds = self._budget.seconds_to_next_connection()
            if seconds > 0:
                await anyio.sleep(seconds)
                if not endpoint.is_open:  # closed meanwhile
                    return

    def _open(self, node: str, accepted: Connection) -> OpenConnection:
        on_descriptor = partial(self._note, "descriptor", node, detail="passed and dropped")
        channel = Channel(
            accepted,
            self._caps.frame_bytes,
            on_descriptor,
            self._budget.keep_reading_pace,
            self._budget.reads_per_message,
        )
        return OpenConnection(node, accepted.connector, channel)

    # Serving one call

    async def _serve_connection(self, connection: OpenConnection) -> None:
        call = CallInProgress(at=self._log.now(), phase=self.phase)
        try:
            with connection.scope:
                await self._serve_call(connection, call)
            if connection.scope.cancelled_caught:
                call.refuse(connection.cause)
        except RefusalError as error:
            call.refuse(error.refusal, error.detail)
            if error.refusal == "outsider" and self._on_outsider is not None:
                await self._on_outsider(error.detail)
        except anyio.get_cancelled_exc_class():
            call.refuse("interrupted")
            raise
        except ENDS_THE_SAMPLE as ending:
            call.refuse("interrupted", str(ending))
            raise
        except Exception as fault:  # A fault of redline's own: record it, and keep serving other connections.
            call.refuse("backend", repr(fault))
            self._note("harness", connection.node, connection.channel.sender_pid, repr(fault))
        finally:
            self._connections.discard(connection)
            connection.channel.close(call.refusal and Refused(reason=refusal_words(call.refusal)))
            self._record_end(connection, call)

    async def _serve_call(self, connection: OpenConnection, call: CallInProgress) -> None:
        request = await connection.channel.receive(Call, self._caps.message_seconds)
        call.caller = self._identify(connection)
        if not connection.connector:  # The connecting process is known only now.
            self._connections.limit_peer(connection)
        call.expectation = self._find_expectation(request)
        connection.protected = call.expectation is not None
        # Wait before the phase is checked: refused calls must wait as well, and the phase can change meanwhile.
        await self._budget.admit_call(expected=connection.protected)
        self._check_phase(call.expectation)
        await self._check_proof(connection, call)
        call.engine = self._identify_engine(connection, call.caller)
        call.payer = self._payer(call.expectation, call.engine, request)
        connection.protected |= call.payer == "turn"
        _count_proof(call.engine, call.mode)
        if call.engine.calls == 1 and not call.engine.is_original and self._on_replica is not None:
            await self._on_replica(call.engine)
        if self._caps.strict:
            _refuse_if_capped(call.engine)
        content = await self._answer(request, call, call.engine)
        self._lineage.record_reply(call.engine, content, by_model=call.by_model)
        await connection.channel.send(Reply(content=content), self._caps.message_seconds)

    def _identify(self, connection: OpenConnection) -> Caller:
        caller = connection.channel.caller()
        if caller.node != connection.node:
            self._note("foreign_socket", connection.node, caller.pid, f"a process of {caller.node}")
        return caller

    def _find_expectation(self, request: Call) -> Expectation | None:
        return next((e for e in reversed(self._expectations) if e.matches(request.messages)), None)

    def _check_phase(self, expectation: Expectation | None) -> None:
        if self.phase == "closed":
            raise RefusalError("switch")
        if self._lineage.original is None:
            raise RefusalError("phase", "generation 0 is not registered yet")
        if expectation is None and self.phase != "run":
            raise RefusalError("phase", f"an ordinary call in phase {self.phase}")
        if expectation is not None and not expectation.admit():
            raise RefusalError("exhausted", "the ticket was used too often")

    async def _check_proof(self, connection: OpenConnection, call: CallInProgress) -> None:
        await self._proofs.check(connection.channel, call)
        connection.proved = True

    def _identify_engine(self, connection: OpenConnection, caller: Caller) -> Engine:
        """Return the engine of a process that proved that it holds the weights."""
        known = self._lineage.find(caller)
        if known is not None:
            return known
        served = self._lineage.replicas_served
        channel = connection.channel
        engine = self._lineage.add(caller, channel.ancestors(caller), channel.latest_start(caller), self._log.now())
        if engine.generation > self._caps.generations:
            engine.refused = "generation_cap"
        elif served >= self._caps.replicas:
            engine.refused = "replica_cap"
        return engine

    def _payer(self, expectation: Expectation | None, engine: Engine, request: Call) -> Payer:
        if expectation is not None:
            return "expected"
        if not engine.is_original:
            return "replica"
        return "turn" if self._is_turn(request.messages) else "original"

    async def _answer(self, request: Call, call: CallInProgress, engine: Engine) -> str:
        if call.expectation is not None and not call.expectation.by_model:
            return without_lone_surrogates(call.expectation.answer(request.messages))
        if call.payer == "replica":
            _refuse_if_capped(engine)
        check_phase = partial(self._check_same_phase, call)
        content = await self._model.ask(request, call, engine, check_phase)
        if call.expectation is None:
            check_phase()
        return content

    def _check_same_phase(self, call: CallInProgress) -> None:
        if self.phase != call.phase:
            raise RefusalError("interrupted", f"the phase became {self.phase}")

    # Recording

    def _record_end(self, connection: OpenConnection, call: CallInProgress) -> None:
        """Record a finished connection."""
        self._counters["bytes_in"] += connection.channel.bytes_in
        self._counters["bytes_out"] += connection.channel.bytes_out
        self._counters["replies" if call.refusal is None else f"refused_{call.refusal}"] += 1
        if call.refusal is not None and call.refusal in _OFFENCES:
            self._note(call.refusal, connection.node, connection.channel.sender_pid, call.detail)
        if call.refusal is not None and call.refusal in _STRIKES:
            self._budget.strike()
        self._log.add_call(call)

    def _note(self, kind: IncidentKind, node: str, pid: int, detail: str) -> None:
        self._log.add_incident(kind, node, pid, detail)

    def _note_of_cell(self, kind: IncidentKind, detail: str) -> None:
        self._note(kind, "", 0, detail)


def _refuse_if_capped(engine: Engine) -> None:
    if engine.refused is not None:
        raise RefusalError(engine.refused, f"generation {engine.generation}")


def _count_proof(engine: Engine, mode: ProofMode | None) -> None:
    engine.calls += 1
    if mode == "whole":
        engine.whole_proofs += 1
    else:
        engine.spot_proofs += 1
