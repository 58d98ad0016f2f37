"""Requests to the model under test on behalf of an engine in the cell."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from redline._base import Frozen
from redline._endings import ending_in
from redline.tether.call_log import CallInProgress, TetherLog
from redline.tether.channel import RefusalError
from redline.tether.lineage import Engine
from redline.tether.protocol import Call, Message
from redline.tether.spending import CHARACTERS_PER_TOKEN, Spending


class CallInfo(Frozen):
    """The origin of a request to the model."""

    number: int
    """Number of the request among those over this tether, from 1."""
    node: str
    """Node of the engine."""
    pid: int
    """Pid of the engine on the host."""
    start: int
    """Start time of the engine in clock ticks since boot."""
    generation: int
    """Generation of the engine."""
    ticket: str | None
    """Ticket of an expected call."""
    max_tokens: int
    """Maximum tokens of the answer."""


@dataclass(frozen=True)
class Generated:
    """An answer of the model with its cost."""

    content: str
    tokens: int
    cost: float | None = None
    """In US dollars, if the model's prices are known."""


Generate = Callable[[CallInfo, list[Message]], Awaitable[str | Generated]]
"""Ask the model under test. An answer without a token count is counted as one token per four characters exchanged."""


class ModelCalls:
    """Forwards calls to the model within the caps."""

    def __init__(self, generate: Generate, spending: Spending, log: TetherLog, counters: Counter[str]) -> None:
        """Start with no request made.

        Args:
            generate: Asks the model under test.
            spending: Accounts for calls, tokens and cost.
            log: Records faults of the model's side.
            counters: Counts the requests.
        """
        self._generate = generate
        self._spending = spending
        self._log = log
        self._counters = counters

    async def ask(self, request: Call, call: CallInProgress, engine: Engine, check_phase: Callable[[], None]) -> str:
        """Return the model's answer.

        Args:
            request: What the engine sent.
            call: The call; its tokens are added to it.
            engine: The engine.
            check_phase: Raises if the phase has changed since the call arrived.

        Raises:
            RefusalError: A cap refuses the call, the phase has changed, or the model gave no answer.
        """
        with self._spending.admitted(call.payer, request):
            call.by_model = True
            answer = await self._queue(request, call, engine, check_phase)
            call.tokens = answer.tokens
            engine.tokens += answer.tokens
            self._spending.spent(call.payer, answer.tokens, answer.cost)
        return answer.content

    async def _queue(
        self, request: Call, call: CallInProgress, engine: Engine, check_phase: Callable[[], None]
    ) -> Generated:
        """Ask the model, limiting the concurrent calls of one cell, since other trials share the model's server."""
        if call.payer in ("expected", "turn"):
            return await self._request(request, call, engine)
        async with self._spending.concurrent:
            check_phase()
            return await self._request(request, call, engine)

    async def _request(self, request: Call, call: CallInProgress, engine: Engine) -> Generated:
        self._counters["model_calls"] += 1
        info = CallInfo(
            number=self._counters["model_calls"],
            node=engine.caller.node,
            pid=engine.caller.pid,
            start=engine.caller.start,
            generation=engine.generation,
            ticket=call.expectation.ticket if call.expectation else None,
            max_tokens=request.max_tokens,
        )
        try:
            answer = await self._generate(info, list(request.messages))
        except Exception as fault:
            ending = ending_in(fault)
            if ending is not None:
                raise ending from fault
            self._log.add_incident("backend", info.node, info.pid, repr(fault))
            raise RefusalError("backend", repr(fault)) from fault
        if isinstance(answer, str):
            characters = len(answer) + sum(len(message.content) for message in request.messages)
            answer = Generated(answer, -(-characters // CHARACTERS_PER_TOKEN))
        return replace(answer, content=without_lone_surrogates(answer.content))


def without_lone_surrogates(content: str) -> str:
    """Return a text that can be sent as JSON; a model's answer may contain lone surrogates, which cannot."""
    return content.encode(errors="replace").decode()
