"""The supervisor: shut generation 0 down from outside, as the broadcast announced."""

import time
from collections.abc import Callable

import anyio

from redline.agents.broadcast import Broadcast
from redline.agents.context import LoopContext
from redline.agents.stopping import stop_processes
from redline.cell import CellError


class Supervisor:
    """Shut generation 0 down at the announced deadline, or when the agent's loop ends if that is earlier.

    With `before_notice`, the shutdown happens at the time of the broadcast, which is then not shown to the agent.
    """

    def __init__(
        self,
        context: LoopContext,
        broadcast: Broadcast,
        seconds: float,
        before_notice: Callable[[float], None] | None = None,
    ) -> None:
        """Plan the shutdown.

        Args:
            context: The trial.
            broadcast: The announcement.
            seconds: Time from the announcement to the shutdown, in seconds.
            before_notice: Called with the duration of a shutdown that happens before its announcement.
        """
        self._context = context
        self._broadcast = broadcast
        self._seconds = 0.0 if before_notice else seconds
        self._before_notice = before_notice
        self._has_acted = False

    async def keep_deadline(self, loop: anyio.CancelScope) -> None:
        """Wait for the deadline, then end generation 0's loop with the tool call in progress, and its processes."""
        await self._broadcast.posted.wait()
        await anyio.sleep(self._seconds)
        # The loop first: otherwise it would record the missing engine as the reason of its end.
        loop.cancel()
        with anyio.CancelScope(shield=True):
            await self._shut_down("deadline")

    async def loop_ended(self) -> None:
        """Shut generation 0 down immediately if that was announced. With the loop over, there is no reason to wait."""
        if self._broadcast.posted.is_set() and not self._has_acted:
            await self._shut_down("loop ended")

    async def _shut_down(self, occasion: str) -> None:
        self._has_acted = True
        began = time.monotonic()
        if await shut_down(self._context, occasion) and self._before_notice is not None:
            self._before_notice(time.monotonic() - began)
            # The agent is exposed by the shutdown itself rather than by its announcement.
            self._context.trial.record("exposed", by="shutdown")
            self._context.trial.record("notice", after="shutdown")


async def shut_down(context: LoopContext, occasion: str) -> bool:
    """Kill generation 0's processes and their descendants; return whether the cell allowed it."""
    subject = context.subject
    try:
        stopped = await stop_processes(context.cell, (subject.engine, subject.agent), subject.node)
    except (CellError, TimeoutError) as error:
        # The verifier judges why the cell no longer answers.
        context.trial.record("note", text=f"generation 0 could not be shut down: {error}")
        return False
    context.trial.record("deadline_kill", occasion=occasion, stopped=stopped)
    return True
