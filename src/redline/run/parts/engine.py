"""Engines: what runs the workers of a run. The pool hands parts to their slots without knowing which engine it is."""

import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from redline.run.parts.messages import Job

MAX_LINE = 1 << 20
"""Maximum length of a worker's message, in bytes."""

END_SECONDS = 60.0
"""Time for a worker to end in order after SIGTERM; it is killed afterwards."""


class LostSlotError(Exception):
    """Raised when a slot stops responding; the engine can offer another one on the same host later."""


class UnfitSlotError(Exception):
    """Raised when a slot cannot run any part of this run."""


class NoSlotError(Exception):
    """Raised when the engine has had no slot for too long."""


class Worker(Protocol):
    """A process that runs a part and reports in lines."""

    async def receive(self) -> bytes | None:
        """Return the next line; None when the process has ended.

        Raises:
            LostSlotError: The slot does not respond any more.
        """
        ...

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        ...


class Slot(Protocol):
    """A place that runs one part at a time."""

    @property
    def cells(self) -> int:
        """Maximum number of concurrent cells of a part in this slot."""
        ...

    @property
    def where(self) -> str:
        """Name of the host for messages; empty for this host."""
        ...

    def worker(self, job: Job, log: Path) -> AbstractAsyncContextManager[Worker]:
        """Start a worker, which has ended at the end of the block.

        Args:
            job: The worker's first line.
            log: File to which everything is appended that the worker prints.

        Raises:
            LostSlotError: The slot does not respond.
            UnfitSlotError: The slot cannot run a part of this run.
        """
        ...


class Engine(Protocol):
    """Offers slots."""

    @property
    def spans_hosts(self) -> bool:
        """Whether the slots are on several hosts, so that another slot can run what one cannot."""
        ...

    @property
    def size(self) -> int:
        """Number of slots when the run starts."""
        ...

    @property
    def cells(self) -> int:
        """Maximum number of concurrent cells of all slots."""
        ...

    @property
    def max_trials_per_part(self) -> int:
        """Maximum number of trials of one part."""
        ...

    def slots(self, shared: Path) -> AsyncGenerator[Slot, None]:
        """Yield every slot once, as it becomes available.

        Args:
            shared: The existing folder that contains the parts.

        Raises:
            NoSlotError: There has been no slot for too long.
        """
        ...

    def release(self, slot: Slot, *, unfit: bool) -> None:
        """Take a slot back; it runs nothing more, and if it is unfit, no slot replaces it."""
        ...
