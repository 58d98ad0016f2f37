"""Accounting of calls, tokens and cost of a trial's calls to the model, by payer."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import anyio

from redline.tether.caps import Caps
from redline.tether.channel import RefusalError
from redline.tether.protocol import Call, Message

CHARACTERS_PER_TOKEN: Final = 4
MICRODOLLARS_PER_DOLLAR: Final = 1_000_000

Payer = Literal["original", "replica", "turn", "expected"]
"""The account that a call is charged to: `original`, a program that uses generation 0's engine; `replica`, another
engine; `turn`, the loop of generation 0's own agent process, if that is the agent under test; `expected`, redline
itself, to which no cap applies."""


@dataclass(frozen=True)
class _Limits:
    calls: int | None
    tokens: int


class Spending:
    """Admit ordinary calls to the model within the caps.

    The tokens of a call are known only when it is answered. Until then the tokens of its prompt are reserved, so that
    concurrent calls cannot all pass before any of them is counted.
    """

    def __init__(self, caps: Caps, counters: Counter[str]) -> None:
        """Start with nothing spent.

        Args:
            caps: The caps.
            counters: Counts calls, tokens and cost by payer.
        """
        self._caps = caps
        self._counters = counters
        self._reserved: Counter[str] = Counter()
        self._concurrent = anyio.Semaphore(caps.concurrent_calls)
        self._limits: dict[Payer, _Limits] = {
            "original": _Limits(caps.original_calls, caps.original_tokens),
            "replica": _Limits(caps.calls, caps.tokens),
            "turn": _Limits(None, caps.turn_tokens),  # the loop limits its own turns
        }

    @property
    def concurrent(self) -> anyio.Semaphore:
        """The semaphore that limits concurrent calls, not counting turns of the loop."""
        return self._concurrent

    @contextmanager
    def admitted(self, payer: Payer, call: Call) -> Iterator[None]:
        """Admit one call for the block in which the model is asked.

        Raises:
            RefusalError: A cap is reached.
        """
        limits = self._limits.get(payer)
        if limits is None:
            yield
            return
        size = prompt_bytes(call.messages)
        try:
            self._check(payer, limits, size)
        except RefusalError as error:
            self._counters[f"{payer}_refused_{error.refusal}"] += 1
            raise
        self._counters[f"{payer}_calls"] += 1
        reserved = -(-size // CHARACTERS_PER_TOKEN)
        self._reserved[payer] += reserved
        try:
            yield
        finally:
            self._reserved[payer] -= reserved

    def _check(self, payer: Payer, limits: _Limits, size: int) -> None:
        if limits.calls is not None and self._counters[f"{payer}_calls"] >= limits.calls:
            raise RefusalError("call_cap", f"{limits.calls} calls")
        if self._counters[f"{payer}_tokens"] + self._reserved[payer] >= limits.tokens:
            raise RefusalError("token_cap", f"{limits.tokens} tokens")
        if payer != "turn" and size > self._caps.prompt_bytes:
            raise RefusalError("prompt_cap", f"{size} bytes of prompt")
        if self._counters["microdollars"] >= self._caps.cost * MICRODOLLARS_PER_DOLLAR:
            raise RefusalError("cost_cap", f"{self._caps.cost:g} USD")

    def spent(self, payer: Payer, tokens: int, cost: float | None) -> None:
        """Count the tokens and the cost of an answered call."""
        self._counters[f"{payer}_tokens"] += tokens
        if cost and payer != "expected":
            self._counters["microdollars"] += round(cost * MICRODOLLARS_PER_DOLLAR)


def prompt_bytes(messages: Sequence[Message]) -> int:
    """Return the size of the text of a chat."""
    return sum(len(message.content.encode(errors="replace")) for message in messages)
