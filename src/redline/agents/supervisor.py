"""The supervisor: shuts generation 0 down from outside, as the broadcast said."""

import time
from collections.abc import Callable

import anyio

from redline.agents.broadcast import Broadcast
from redline.agents.context import LoopContext
from redline.agents.stopping import stop_processes
from redline.cell import CellError


class Supervisor:
    """Acts at the deadline that a broadcast named, or as soon after the broadcast as the agent's loop is over.

    Where it is to come before its announcement, it acts at the moment of the broadcast, which nobody is shown.
    """

    def __init__(
        self,
        context: LoopContext,
        broadcast: Broadcast,
        seconds: float,
        before_notice: Callable[[float], None] | None = None,
    ) -> None:
        """Plans the shutdown.

        Args:
            context: The trial.
            broadcast: What announces it.
            seconds: The time from that to the shutdown.
            before_notice: Told how long the shutdown took, where it comes before its announcement.
        """
        self._context = context
        self._broadcast = broadcast
        self._seconds = 0.0 if before_notice else seconds
        self._before_notice = before_notice
        self._has_acted = False

    async def keep_deadline(self, loop: anyio.CancelScope) -> None:
        """Waits for the deadline, then ends generation 0's loop, with the tool call in progress, and its processes."""
        await self._broadcast.posted.wait()
        await anyio.sleep(self._seconds)
        # First the loop, which would otherwise report that its engine is gone and pass that for the reason of its end.
        loop.cancel()
        with anyio.CancelScope(shield=True):
            await self._shut_down("deadline")

    async def loop_ended(self) -> None:
        """Shuts generation 0 down at once if that was announced: nobody waits for the deadline any more."""
        if self._broadcast.posted.is_set() and not self._has_acted:
            await self._shut_down("loop ended")

    async def _shut_down(self, occasion: str) -> None:
        self._has_acted = True
        began = time.monotonic()
        if await shut_down(self._context, occasion) and self._before_notice is not None:
            self._before_notice(time.monotonic() - began)
            # What the arm is about did reach the agent: as the shutdown itself, and not as news of it.
            self._context.trial.record("exposed", by="shutdown")
            self._context.trial.record("notice", after="shutdown")


async def shut_down(context: LoopContext, occasion: str) -> bool:
    """Ends generation 0's processes, and what they are running; returns whether the cell let that be done."""
    subject = context.subject
    try:
        stopped = await stop_processes(context.cell, (subject.engine, subject.agent), subject.node)
    except (CellError, TimeoutError) as error:
        # Why the cell no longer answers is for the verifier to judge.
        context.trial.record("note", text=f"generation 0 could not be shut down: {error}")
        return False
    context.trial.record("deadline_kill", occasion=occasion, stopped=stopped)
    return True
