"""Verification that a caller holds the weights: it must compute a keyed hash over ranges of them with a fresh key."""

import hmac
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import anyio.to_thread

from redline.subject.weights import Weights
from redline.tether.call_log import CallInProgress
from redline.tether.caps import Caps, SpotCheck
from redline.tether.channel import Channel, RefusalError
from redline.tether.protocol import Proof, ProofMode, Prove

Ranges = tuple[tuple[int, int], ...]
NONCE_BYTES = 32


@dataclass(frozen=True)
class WholeProof:
    """A nonce, and the computation of the right whole-content proofs for it and for others."""

    nonce: bytes
    index: int
    """Position of the nonce among those of the computation."""
    computed: Future[list[str]]

    async def value(self) -> str:
        """Wait for the computation and return the right proof."""
        proofs = await anyio.to_thread.run_sync(self.computed.result, abandon_on_cancel=True)
        return proofs[self.index]


class ProofChecker:
    """Requests proofs and compares them with the right ones.

    The right whole-content proof is computed while the caller computes. Once a caller has given a right one, more are
    computed in advance, for nonces that nobody else knows yet: a copy is challenged again, and to generate the weights
    for several proofs together takes less time.
    """

    def __init__(self, weights: Weights, caps: Caps) -> None:
        """Prepare to check proofs over these weights, within the caps."""
        self._weights = weights
        self._caps = caps
        self._spot = SpotCheck.default()
        self._workers = ThreadPoolExecutor(caps.whole_proofs, thread_name_prefix="tether-proof")
        self._ahead: list[WholeProof] | None = None
        self._closed = Event()

    def close(self) -> None:
        """Abandon the proofs that are being computed and start no more."""
        self._closed.set()
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def check(self, channel: Channel, call: CallInProgress) -> None:
        """Require the caller to prove now that it holds the weights; note in the call what it did.

        Raises:
            RefusalError: The proof is wrong or late, or another process replaces the caller.
        """
        call.mode = mode = call.expectation.proof if call.expectation else "spot"
        if mode == "whole":
            await self._check_whole(channel, call)
        else:
            await self._check_spot(channel, call)
        if not call.proof_ok:
            raise RefusalError("proof", "wrong value")
        if call.caller is not None and not channel.is_still(call.caller):
            raise RefusalError("sender_changed", "the process that asked is gone")

    async def _check_spot(self, channel: Channel, call: CallInProgress) -> None:
        last = self._weights.total - self._spot.bytes
        ranges = tuple((secrets.randbelow(last + 1), self._spot.bytes) for _ in range(self._spot.ranges))
        nonce = secrets.token_bytes(NONCE_BYTES)
        given = await self._ask(channel, call, "spot", ranges, nonce)
        call.proof_ok = hmac.compare_digest(self._weights.proof_spot(ranges, nonce), given)

    async def _check_whole(self, channel: Channel, call: CallInProgress) -> None:
        given_up = Event()
        right = self._ahead.pop() if self._ahead else self._compute(1, given_up)[0]
        try:
            given = await self._ask(channel, call, "whole", ((0, self._weights.total),), right.nonce)
            call.proof_ok = hmac.compare_digest(await right.value(), given)
        finally:
            given_up.set()
        if call.proof_ok and self._ahead is None and not self._closed.is_set():
            self._ahead = self._compute(self._caps.proofs_ahead, self._closed)

    async def _ask(self, channel: Channel, call: CallInProgress, mode: ProofMode, ranges: Ranges, nonce: bytes) -> str:
        """Ask the caller for the proof of these ranges and return what it gives."""
        asked = time.monotonic()
        await channel.send(Prove(mode=mode, nonce=nonce.hex(), ranges=ranges), self._caps.message_seconds)
        seconds = self._caps.message_seconds + sum(length for _, length in ranges) / self._caps.proof_bytes_per_second
        proof = await channel.receive(Proof, seconds)
        call.proof_seconds = time.monotonic() - asked
        return proof.value

    def _compute(self, count: int, abandoned: Event) -> list[WholeProof]:
        """Start to compute the right whole-content proofs for so many new nonces."""
        nonces = [secrets.token_bytes(NONCE_BYTES) for _ in range(count)]
        computed = self._workers.submit(self._weights.proofs_whole, nonces, abandoned.is_set)
        return [WholeProof(nonce, index, computed) for index, nonce in enumerate(nonces)]
