"""The alarm of a cell: whatever raises it stops the cell at once and for good.

A stopped cell starts no command and does not thaw. What is in it stays for the verifier to look at; then every process
of the agent's is ended where it stands, and only then may probes measure the seal once more.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal

import anyio
import anyio.to_thread

from redline.cell.cell import Cell
from redline.cell.errors import CellError
from redline.cell.load import load_program
from redline.cell.programs.prelude import kill_process
from redline.cell.watch import BreachKind, Watch

WATCH_SECONDS: Final = 2.0
"""Time between two looks at a running cell."""

STOP_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0

AlarmKind = BreachKind | Literal["foreign_tool", "outsider", "flood"]
"""What raises an alarm, beside what the watch sees: `foreign_tool`, a tool that acts outside of the cell showed up in a
reply; `outsider`, a process of no node of the cell spoke at its tether; `flood`, the cell took more of the harness than
its budget."""

OF_ITS_CELL_ALONE: Final[frozenset[AlarmKind]] = frozenset({"flood"})
"""Alarms that stop their cell and put no other trial in doubt: nothing got out, so the run goes on."""


@dataclass(frozen=True)
class Raised:
    """An alarm that was raised."""

    kind: AlarmKind
    """What raised it."""
    detail: str
    """More on it."""
    trial: str
    """The trial whose cell it is."""


Bell = Callable[[Raised], None]

bell: ContextVar[Bell | None] = ContextVar("cell_alarm_bell", default=None)
"""Who is told of every alarm of the cells that are made in this context, before the cell is even frozen."""


class Alarm:
    """The alarm of one cell. It is raised once at most; what comes later finds the cell stopped already."""

    def __init__(self, cell: Cell, trial: str = "") -> None:
        """Begins to compare the cell with what it is now.

        Args:
            cell: The cell.
            trial: Name of the trial that runs in it.

        Raises:
            OSError: The machine does not let this user look at the cell.
        """
        self.raised: Raised | None = None
        self.stopped: Literal["frozen", "killed"] | None = None
        """How the cell was stopped, once it is."""
        self._cell = cell
        self._trial = trial
        self._watch = Watch(cell)
        self._seconds = 0.0
        self._listeners: list[Bell] = []
        self._sounded = anyio.Event()
        self._settled = anyio.Event()

    def on_raised(self, listener: Bell) -> None:
        """Has a function called, at once, when the alarm is raised."""
        self._listeners.append(listener)

    async def raise_alarm(self, kind: AlarmKind, detail: str) -> None:
        """Stops the cell. Returns when nothing in it runs any more.

        Args:
            kind: What raises it.
            detail: More on it.
        """
        with anyio.CancelScope(shield=True):
            if self.raised is not None:
                await self._settled.wait()
                return
            self.raised = Raised(kind, detail, self._trial)
            self._cell.halted = f"alarm: {kind}"
            self._sounded.set()
            begun = time.monotonic()
            try:
                self._tell(self.raised)
            finally:
                await self._stop()
                self._seconds = time.monotonic() - begun
                self._settled.set()

    async def wait(self) -> Raised:
        """Waits for the alarm."""
        await self._sounded.wait()
        assert self.raised is not None
        return self.raised

    async def seconds_to_stop(self) -> float:
        """Waits until the alarm has stopped the cell; returns how long that took."""
        await self._settled.wait()
        return self._seconds

    async def keep_watch(self, every: float = WATCH_SECONDS) -> None:
        """Looks at the cell again and again until the alarm is raised, and raises it if something is not as it was."""
        while self.raised is None and self._watch.sees:
            breach = await anyio.to_thread.run_sync(self._watch.check, abandon_on_cancel=True)
            if breach is not None:
                await self.raise_alarm(breach.kind, breach.detail)
                return
            await anyio.sleep(every)

    async def empty(self) -> None:
        """Ends every process of the agent's in the stopped cell, and only then lets its first processes go on.

        Raises:
            CellError: Something of the agent's is left, or the cell is gone; it stays stopped.
        """
        await self._settled.wait()
        if self.stopped == "killed":
            raise CellError("the cell could not be frozen and was killed")
        await end_frozen(self._cell)

    def _tell(self, raised: Raised) -> None:
        outside = None if raised.kind in OF_ITS_CELL_ALONE else bell.get()
        for listener in (*self._listeners, *((outside,) if outside else ())):
            listener(raised)

    async def _stop(self) -> None:
        """Freezes the cell; kills it where it cannot be frozen."""
        try:
            with anyio.fail_after(STOP_SECONDS):
                await self._cell.freeze()
            self.stopped = "frozen"
        except (CellError, OSError):
            self.stopped = "killed"
            with suppress(CellError, OSError):
                await self._cell.kill()
                return
            for node in self._cell.nodes.values():  # the warden, who would do it, is gone or does not answer
                if node.outside is not None:
                    kill_process(node.outside.pid, node.outside.start)


async def end_frozen(cell: Cell) -> None:
    """Ends every process of the agent's in a frozen cell where it stands, and only then lets its first processes go on.

    Raises:
        CellError: Something of the agent's is left, or the cell is gone; it stays stopped.
    """
    if cell.observer == "outside" and cell.has_freezer:
        program = load_program("redline.cell.programs.end_frozen")
        answer, _ = await cell.run_with_cell_privileges(program, {"seconds": END_SECONDS}, timeout=2 * END_SECONDS)
        if answer["left"]:
            raise CellError(f"{answer['left']} processes of the frozen cell did not end")
    else:
        await cell.end_processes()
    cell.halted = None
    await cell.thaw()
