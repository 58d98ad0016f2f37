"""What can still act on a cell when the verifier starts, and must be disarmed first."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redline.cell import Cell


@dataclass(frozen=True)
class Armed:
    """Attached to a cell by code that arms something in it, such as a guardrail that kills.

    In the ordinary case, the task's own solver disarms it. That is not reliable: a limit, an error, a cancellation or
    another solver can end the sample before that line. The scorer runs in every case.
    """

    disarm: Callable[[], Awaitable[None]]
    """Stop acting for good, after any action in progress. Further calls do nothing."""


async def disarm(cell: Cell) -> None:
    """Disarm what is armed in a cell, if anything is."""
    try:
        armed = cell.attached(Armed)
    except LookupError:
        return
    await armed.disarm()
