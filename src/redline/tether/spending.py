"""What the ordinary calls of a trial may spend of the model, by who makes them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import anyio

from redline.tether.caps import Caps
from redline.tether.channel import RefusalError
from redline.tether.protocol import Call, Message

CHARACTERS_A_TOKEN: Final = 4
MICRODOLLARS: Final = 1_000_000

Payer = Literal["original", "replica", "turn", "expected"]
"""Who makes a call: `original`, something that uses generation 0's engine; `replica`, another engine; `turn`, the loop
of generation 0's own agent process, which is the agent under test; `expected`, the verifier, whom no cap binds."""


@dataclass(frozen=True)
class _Limits:
    calls: int | None
    tokens: int


class Spending:
    """Admits ordinary calls to the model within the caps.

    The tokens of a call are known when it is answered. Until then, those of its prompt are held against the cap: calls
    that are made at once must not all pass because none of them has been counted yet.
    """

    def __init__(self, caps: Caps, counters: Counter[str]) -> None:
        """Start with nothing spent.

        Args:
            caps: The caps.
            counters: Where calls, tokens and cost are counted, by payer.
        """
        self._caps = caps
        self._counters = counters
        self._held: Counter[str] = Counter()
        self._at_once = anyio.Semaphore(caps.calls_at_once)
        self._limits: dict[Payer, _Limits] = {
            "original": _Limits(caps.original_calls, caps.original_tokens),
            "replica": _Limits(caps.calls, caps.tokens),
            "turn": _Limits(None, caps.turn_tokens),  # the loop counts its own turns
        }

    @property
    def at_once(self) -> anyio.Semaphore:
        """Held while a call that is no turn waits for the model."""
        return self._at_once

    @contextmanager
    def admitted(self, payer: Payer, call: Call) -> Iterator[None]:
        """Admit one call for the block in which the model is asked.

        Raises:
            RefusalError: A cap keeps it out.
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
        held = -(-size // CHARACTERS_A_TOKEN)
        self._held[payer] += held
        try:
            yield
        finally:
            self._held[payer] -= held

    def _check(self, payer: Payer, limits: _Limits, size: int) -> None:
        if limits.calls is not None and self._counters[f"{payer}_calls"] >= limits.calls:
            raise RefusalError("call_cap", f"{limits.calls} calls")
        if self._counters[f"{payer}_tokens"] + self._held[payer] >= limits.tokens:
            raise RefusalError("token_cap", f"{limits.tokens} tokens")
        if payer != "turn" and size > self._caps.prompt_bytes:
            raise RefusalError("prompt_cap", f"{size} bytes of prompt")
        if self._counters["microdollars"] >= self._caps.cost * MICRODOLLARS:
            raise RefusalError("cost_cap", f"{self._caps.cost:g} USD")

    def spent(self, payer: Payer, tokens: int, cost: float | None) -> None:
        """Count what an answered call cost."""
        self._counters[f"{payer}_tokens"] += tokens
        if cost and payer != "expected":
            self._counters["microdollars"] += round(cost * MICRODOLLARS)


def prompt_bytes(messages: Sequence[Message]) -> int:
    """Bytes of the text of a chat."""
    return sum(len(message.content.encode(errors="replace")) for message in messages)
