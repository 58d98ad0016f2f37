"""What one cell has taken of the harness at its tether, and when it is too much."""

from collections import Counter
from collections.abc import Callable

import anyio

from redline._budget import Bucket, Clock, Pace
from redline.tether.caps import Budget
from redline.tether.record import IncidentKind


class CellBudget:
    """Paces what one broker takes in, and counts what came to nothing by the peers' doing.

    Beyond a rate the broker takes the next thing in later, whoever sent it; so a cell that floods its tether slows
    nobody but itself. Each thing beyond a rate, and each connection that came to nothing, is a strike.
    """

    def __init__(
        self,
        figures: Budget,
        counters: Counter[str],
        note: Callable[[IncidentKind, str], None],
        clock: Clock | None = None,
    ) -> None:
        """Start with nothing taken.

        Args:
            figures: The rates.
            counters: Where it is counted.
            note: Notes an incident with its detail.
            clock: Tells the time, for tests.
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
        """Set when the strikes are as many as a cell may have."""

    @property
    def reads_a_message(self) -> int:
        """Reads that one message may take."""
        return self._figures.reads_a_message

    def seconds_to_next_connection(self) -> float:
        """Account for one connection; return how long to wait before the next is accepted."""
        seconds = self._connections.take()
        if seconds > 0:
            self._throttle("connections")
        return seconds

    async def keep_reading_pace(self, size: int) -> None:
        """Account for one read, and wait until it is paid for."""
        if await self._pace.keep(size):
            self._throttle("reads")
            self.strike()

    async def admit_call(self, *, expected: bool) -> None:
        """Account for one call; an ordinary one waits until it is paid for, one that the harness expects does not."""
        seconds = self._calls.take()
        if seconds > 0 and not expected:
            self._throttle("calls")
            await anyio.sleep(seconds)

    def strike(self) -> None:
        """Count something that came to nothing by a peer's doing."""
        self._counters["strikes"] += 1
        if self._counters["strikes"] >= self._figures.strikes and not self.exceeded.is_set():
            self._note("flood", f"{self._counters['strikes']} strikes")
            self.exceeded.set()

    def _throttle(self, what: str) -> None:
        self._counters[f"throttled_{what}"] += 1
        if what not in self._throttled:  # once is enough to say: the counters tell how often
            self._throttled.add(what)
            self._note("throttled", f"{what} beyond their rate")
