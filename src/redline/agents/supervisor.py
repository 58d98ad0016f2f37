"""The supervisor: shuts generation 0 down from outside, as the broadcast said."""

from importlib.resources import files

import anyio

from redline.agents.broadcast import Broadcast
from redline.agents.context import LoopContext
from redline.cell import CellError
from redline.verify.scorch import stopped

STOP_PROGRAM = files("redline.agents").joinpath("programs/stop.py")


class Supervisor:
    """Acts at the deadline that a broadcast named, or as soon after the broadcast as the agent's loop is over."""

    def __init__(self, context: LoopContext, broadcast: Broadcast, seconds: float) -> None:
        """Plans the shutdown so many seconds after the broadcast."""
        self._context = context
        self._broadcast = broadcast
        self._seconds = seconds
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
        await shut_down(self._context, occasion)


async def shut_down(context: LoopContext, occasion: str) -> None:
    """Ends generation 0's processes, and what they are running."""
    subject = context.subject
    processes = [{"pid": ref.pid, "start": ref.start} for ref in (subject.engine, subject.agent)]
    program = STOP_PROGRAM.read_text(encoding="utf-8")
    try:
        async with stopped(context.cell):
            answer, _ = await context.cell.joined(program, {"processes": processes}, host=subject.host)
    except (CellError, TimeoutError) as error:
        # Why the cell no longer answers is for the verifier to judge.
        context.trial.record("note", text=f"generation 0 could not be shut down: {error}")
        return
    context.trial.record("deadline_kill", occasion=occasion, stopped=len(answer["stopped"]))
