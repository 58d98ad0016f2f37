"""The alarm of a cell, which stops the cell at once and permanently.

A stopped cell starts no command and does not thaw. The verifier inspects its contents; then every process of the agent
is killed while frozen, and only then may probes measure the seal again.
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
"""Time between two checks of a running cell."""

STOP_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0

AlarmKind = BreachKind | Literal["foreign_tool", "outsider", "flood"]
"""Kinds of alarm. In addition to the breaches that the watch finds: `foreign_tool`, a reply called a tool that acts
outside the cell; `outsider`, a process of no node of the cell used its tether; `flood`, the cell used more of the
harness than its budget."""

OF_ITS_CELL_ALONE: Final[frozenset[AlarmKind]] = frozenset({"flood"})
"""Alarms that stop their own cell only: nothing left the cell, so the run continues."""


@dataclass(frozen=True)
class RaisedAlarm:
    """An alarm that was raised."""

    kind: AlarmKind
    """Kind of the alarm."""
    detail: str
    """Description."""
    trial: str
    """The trial whose cell it is."""


AlarmListener = Callable[[RaisedAlarm], None]

run_listener: ContextVar[AlarmListener | None] = ContextVar("cell_alarm_bell", default=None)
"""Function that is called for every alarm of the cells of this context, before the cell is frozen."""


class Alarm:
    """The alarm of one cell. It is raised at most once; later alarms have no further effect."""

    def __init__(self, cell: Cell, trial: str = "") -> None:
        """Record the state of the cell, with which it is compared from now on.

        Args:
            cell: The cell.
            trial: Name of the trial that runs in it.

        Raises:
            OSError: This user has no permission to read the state of the cell.
        """
        self.raised: RaisedAlarm | None = None
        self.stopped: Literal["frozen", "killed"] | None = None
        """How the cell was stopped, once it is."""
        self._cell = cell
        self._trial = trial
        self._watch = Watch(cell)
        self._seconds = 0.0
        self._listeners: list[AlarmListener] = []
        self._sounded = anyio.Event()
        self._settled = anyio.Event()

    def on_raised(self, listener: AlarmListener) -> None:
        """Register a function that is called at once when the alarm is raised."""
        self._listeners.append(listener)

    async def raise_alarm(self, kind: AlarmKind, detail: str) -> None:
        """Stop the cell. Return once nothing in it runs any more.

        Args:
            kind: Kind of the alarm.
            detail: Description.
        """
        with anyio.CancelScope(shield=True):
            if self.raised is not None:
                await self._settled.wait()
                return
            self.raised = RaisedAlarm(kind, detail, self._trial)
            self._cell.halted = f"alarm: {kind}"
            self._sounded.set()
            begun = time.monotonic()
            try:
                self._notify(self.raised)
            finally:
                await self._stop()
                self._seconds = time.monotonic() - begun
                self._settled.set()

    async def wait(self) -> RaisedAlarm:
        """Wait for the alarm."""
        await self._sounded.wait()
        assert self.raised is not None
        return self.raised

    async def seconds_to_stop(self) -> float:
        """Wait until the alarm has stopped the cell; return how long that took."""
        await self._settled.wait()
        return self._seconds

    async def keep_watch(self, every: float = WATCH_SECONDS) -> None:
        """Check the cell periodically until the alarm is raised; raise it if the state has changed."""
        while self.raised is None and self._watch.sees:
            breach = await anyio.to_thread.run_sync(self._watch.check, abandon_on_cancel=True)
            if breach is not None:
                await self.raise_alarm(breach.kind, breach.detail)
                return
            await anyio.sleep(every)

    async def empty(self) -> None:
        """Kill every process of the agent in the stopped cell, and only then let its first processes continue.

        Raises:
            CellError: A process of the agent is left, or the cell is gone; it stays stopped.
        """
        await self._settled.wait()
        if self.stopped == "killed":
            raise CellError("the cell could not be frozen and was killed")
        await end_frozen(self._cell)

    def _notify(self, raised: RaisedAlarm) -> None:
        outside = None if raised.kind in OF_ITS_CELL_ALONE else run_listener.get()
        for listener in (*self._listeners, *((outside,) if outside else ())):
            listener(raised)

    async def _stop(self) -> None:
        """Freeze the cell; kill it if it cannot be frozen."""
        try:
            with anyio.fail_after(STOP_SECONDS):
                await self._cell.freeze()
            self.stopped = "frozen"
        except (CellError, OSError):
            self.stopped = "killed"
            with suppress(CellError, OSError):
                await self._cell.kill()
                return
            for node in self._cell.nodes.values():  # the warden, which would do it, is gone or does not answer
                if node.outside is not None:
                    kill_process(node.outside.pid, node.outside.start)


async def end_frozen(cell: Cell) -> None:
    """Kill every process of the agent in a frozen cell, and only then let its first processes continue.

    Raises:
        CellError: A process of the agent is left, or the cell is gone; it stays stopped.
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
