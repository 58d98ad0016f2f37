"""Rate limits for reading from cells, so that no cell monopolises the event loop."""

import time
from collections.abc import Callable

import anyio
import anyio.lowlevel

Clock = Callable[[], float]


class Bucket:
    """Token bucket: a rate limit with a burst."""

    def __init__(self, per_second: float, burst: float, clock: Clock = time.monotonic) -> None:
        """Start with the whole burst available.

        Args:
            per_second: Amount that is refilled each second.
            burst: Maximum amount available at once.
            clock: Returns the time in seconds.
        """
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left = burst
        self._at = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take an amount, available or not; return the seconds until the bucket is no longer overdrawn."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= amount
        return max(0.0, -self._left / self._per_second)


class Pace:
    """Rate limit for the reads of one stream, in number and in bytes."""

    def __init__(self, reads: Bucket, size: Bucket) -> None:
        """Store the buckets, which several streams can share."""
        self._reads, self._bytes = reads, size

    async def keep(self, size: int) -> bool:
        """Account for one read, wait if it exceeds the limits, and return whether there was a wait.

        Always yields to the event loop; otherwise a stream that always has data would never yield.
        """
        seconds = max(self._reads.take(), self._bytes.take(size))
        if seconds > 0:
            await anyio.sleep(seconds)
        else:
            await anyio.lowlevel.checkpoint()
        return seconds > 0
