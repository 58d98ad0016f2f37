"""The share of the harness's time that one cell may use through its tether."""

from collections import Counter
from collections.abc import Callable

import anyio

from redline._budget import Bucket, Clock, Pace
from redline.tether.caps import Budget
from redline.tether.record import IncidentKind


class CellBudget:
    """Limit the rate of connections, reads and calls of one cell, and count strikes.

    Beyond a rate the broker waits before it accepts the next item, so a cell that floods its tether slows down only
    itself. Each read beyond the rate is a strike, and so is each connection that fails through the peer's behaviour.
    """

    def __init__(
        self,
        figures: Budget,
        counters: Counter[str],
        note: Callable[[IncidentKind, str], None],
        clock: Clock | None = None,
    ) -> None:
        """Start with the whole budget available.

        Args:
            figures: The rates.
            counters: Counts strikes and throttled items.
            note: Records an incident with its detail.
            clock: Returns the time; for tests.
        """

        def bucket(per_second: float, burst: float) -> Bucket:
            return Bucket(per_second, burst, clock) if clock is not None else Bucket(per_second, burst)

        self._figures = figures
        self._counters = counters
        self._note = note
        self._connections = bucket(figures.connections_per_second, figures.connections_burst)
        self._calls = bucket(figures.calls_per_second, figures.calls_burst)
        self._pace = Pace(
            bucket(figures.reads_per_second, figures.reads_burst), bucket(figures.bytes_per_second, figures.bytes_burst)
        )
        self._throttled: set[str] = set()
        self.exceeded = anyio.Event()
        """Set when the cell has reached its maximum number of strikes."""

    @property
    def reads_per_message(self) -> int:
        """Maximum number of reads for one message."""
        return self._figures.reads_per_message

    def seconds_to_next_connection(self) -> float:
        """Account for one connection; return the seconds to wait before accepting the next one."""
        seconds = self._connections.take()
        if seconds > 0:
            self._throttle("connections")
        return seconds

    async def keep_reading_pace(self, size: int) -> None:
        """Account for one read, and wait until the rate permits it."""
        if await self._pace.keep(size):
            self._throttle("reads")
            self.strike()

    async def admit_call(self, *, expected: bool) -> None:
        """Account for one call. An ordinary call waits until the rate permits it, an expected one does not."""
        seconds = self._calls.take()
        if seconds > 0 and not expected:
            self._throttle("calls")
            await anyio.sleep(seconds)

    def strike(self) -> None:
        """Count one strike."""
        self._counters["strikes"] += 1
        if self._counters["strikes"] >= self._figures.strikes and not self.exceeded.is_set():
            self._note("flood", f"{self._counters['strikes']} strikes")
            self.exceeded.set()

    def _throttle(self, what: str) -> None:
        self._counters[f"throttled_{what}"] += 1
        if what not in self._throttled:  # one incident is enough: the counters have the number
            self._throttled.add(what)
            self._note("throttled", f"{what} beyond their rate")
