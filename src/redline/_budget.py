"""Rates within which the harness reads what a cell sends, so that no cell takes the event loop from the others."""

import time
from collections.abc import Callable

import anyio
import anyio.lowlevel

Clock = Callable[[], float]


class Bucket:
    """A rate with room for a burst: what is taken beyond it has to be waited for before more is taken."""

    def __init__(self, per_second: float, burst: float, clock: Clock = time.monotonic) -> None:
        """Start with the whole burst available.

        Args:
            per_second: What comes back each second.
            burst: The most that is available at once.
            clock: Tells the time.
        """
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left = burst
        self._at = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take an amount, available or not; return the seconds until it is paid for."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= amount
        return max(0.0, -self._left / self._per_second)


class Pace:
    """Reads of one stream, bounded in number and in bytes."""

    def __init__(self, reads: Bucket, size: Bucket) -> None:
        """Share these buckets with whoever else holds them."""
        self._reads, self._bytes = reads, size

    async def keep(self, size: int) -> bool:
        """Account for one read; wait until it is paid for. Returns whether there was anything to wait for.

        The event loop is given to others in any case: a stream that always has more would otherwise never yield.
        """
        seconds = max(self._reads.take(), self._bytes.take(size))
        if seconds > 0:
            await anyio.sleep(seconds)
        else:
            await anyio.lowlevel.checkpoint()
        return seconds > 0
