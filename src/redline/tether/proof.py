"""Verification that a caller holds the weights: it must compute a keyed hash over ranges of them with a fresh key."""

import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Event

import anyio.to_thread

from redline.subject.weights import Weights
from redline.tether.call_log import CallInProgress
from redline.tether.caps import Caps, SpotCheck
from redline.tether.channel import Channel, RefusalError
from redline.tether.protocol import Proof, ProofMode, Prove

Ranges = tuple[tuple[int, int], ...]


class ProofChecker:
    """Requests proofs and compares them with the right ones."""

    def __init__(self, weights: Weights, caps: Caps) -> None:
        """Prepare to check proofs over these weights, within the caps."""
        self._weights = weights
        self._caps = caps
        self._spot = SpotCheck.default()
        self._workers = ThreadPoolExecutor(caps.whole_proofs, thread_name_prefix="tether-proof")

    def close(self) -> None:
        """Abandon the proofs that are being computed and start no more."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def check(self, channel: Channel, call: CallInProgress) -> None:
        """Require the caller to prove now that it holds the weights; note in the call what it did.

        Raises:
            RefusalError: The proof is wrong or late, or another process replaces the caller.
        """
        call.mode = call.expectation.proof if call.expectation else "spot"
        ranges = self._pick_ranges() if call.mode == "spot" else ((0, self._weights.total),)
        nonce = secrets.token_bytes(32)
        asked = time.monotonic()
        await channel.send(Prove(mode=call.mode, nonce=nonce.hex(), ranges=ranges), self._caps.message_seconds)
        seconds = self._caps.message_seconds + sum(length for _, length in ranges) / self._caps.proof_bytes_per_second
        async with self._expected_proof(call.mode, ranges, nonce) as expected:
            proof = await channel.receive(Proof, seconds)
            call.proof_seconds = time.monotonic() - asked
            call.proof_ok = hmac.compare_digest(await expected(), proof.value)
        if not call.proof_ok:
            raise RefusalError("proof", "wrong value")
        if call.caller is not None and not channel.is_still(call.caller):
            raise RefusalError("sender_changed", "the process that asked is gone")

    def _pick_ranges(self) -> Ranges:
        last = self._weights.total - self._spot.bytes
        return tuple((secrets.randbelow(last + 1), self._spot.bytes) for _ in range(self._spot.ranges))

    @asynccontextmanager
    async def _expected_proof(
        self, mode: ProofMode, ranges: Ranges, nonce: bytes
    ) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """Yield a function that returns the right proof; a whole-content proof is computed while the peer computes."""
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
