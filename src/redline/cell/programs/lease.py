"""The lease of a harness: when its silence means that it is stopped or dead. Standard library only."""

from __future__ import annotations

import contextlib
import os
import time

BUSY_SHARE = 0.5
"""Fraction of a time for which a harness must have run or waited for a processor to count as busy in it."""

BUSY_LEASES = 3
"""Number of leases after which even a busy harness counts as stopped."""

STALL_SECONDS = 1.0
"""Time without a look at the lease after which the holder itself was stopped, and most likely the harness with it."""

RESUME_SECONDS = 1.0
"""Time for a harness to renew its lease after a stall of the holder. The kernel may wake the holder first."""


class Lease:
    """A lease that a harness renews and that its holder looks at several times a second.

    Silence alone does not prove a stop. A harness on a loaded host may wait for a processor, or compute without letting
    its other threads run; a host that pauses stops the holder, too. So a harness that is known to run gets more time,
    up to `BUSY_LEASES`, and after a stall the holder waits for a moment. A stopped process neither runs nor waits for a
    processor, so its lease is not prolonged.
    """

    def __init__(self, seconds: float, harness: int = 0) -> None:
        """Start with a renewed lease.

        Args:
            seconds: Silence after which an idle harness counts as stopped.
            harness: Process id of the harness, if it is the parent of this process; 0 if it cannot be seen.
        """
        self.seconds, self.harness = seconds, harness
        self.renew()

    def renew(self) -> None:
        """Record a sign of life."""
        self.renewed = self.looked = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.resumed = False
        self.sample: tuple[float, float] | None = None

    def has_expired(self) -> bool:
        """Return whether the harness counts as stopped or dead now."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        stalled, self.looked = now - self.looked >= STALL_SECONDS, now
        silence = now - self.renewed
        if silence < self.seconds / 2:
            return False
        if stalled and not self.resumed:  # once per renewal: a slow holder must not prolong a lease without end
            self.resumed = True
            self.renewed = max(self.renewed, now - self.seconds + RESUME_SECONDS)
            return False
        if silence < self.seconds:
            self.sample = self.sample or (now, self.worked())
            return False
        return silence >= BUSY_LEASES * self.seconds or not self.was_busy(now)

    def was_busy(self, now: float) -> bool:
        """Return whether the harness was busy since the last sample, and take the next one."""
        before, self.sample = self.sample, (now, self.worked())
        return before is not None and self.sample[1] - before[1] > BUSY_SHARE * (now - before[0])

    def worked(self) -> float:
        """Return the seconds for which the harness ran or waited for a processor."""
        if not self.harness or os.getppid() != self.harness:
            return 0.0
        return runnable_seconds(self.harness)


def runnable_seconds(pid: int) -> float:
    """Return the seconds for which threads of a process ran or waited for a processor, summed over live threads.

    On a loaded host, a busy process gets only a small share of a processor, but it always waits for one. A stopped
    process does not. Return 0 where the kernel keeps no scheduling statistics, or the process has ended.
    """
    total = 0
    folder = f"/proc/{pid}/task"
    with contextlib.suppress(OSError):  # the process has ended
        for thread in os.listdir(folder):
            with contextlib.suppress(OSError, ValueError):  # the thread has ended
                with open(f"{folder}/{thread}/schedstat", "rb") as file:
                    ran, waited, _ = map(int, file.read().split())
                total += ran + waited
    return total / 1e9
