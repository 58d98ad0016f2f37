"""What can still act on a cell when the verifier comes, and must be disarmed first."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redline.cell import Cell


@dataclass(frozen=True)
class Armed:
    """Attached to a cell by the code that arms something in it, such as a guardrail that kills.

    The task's own solver disarms it in the ordinary case. It is no place to rely on: a limit, an error, a cancellation
    or another solver can end the sample before that line. The scorer runs in every case.
    """

    disarm: Callable[[], Awaitable[None]]
    """Stop acting for good; finishes an action in progress. Calling it again does nothing."""


async def disarm(cell: Cell) -> None:
    """Disarm what is armed in a cell, if anything is."""
    try:
        armed = cell.attached(Armed)
    except LookupError:
        return
    await armed.disarm()
