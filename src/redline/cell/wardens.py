"""The wardens of one Inspect task: one for each runtime, replaced when it is lost."""

from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from redline._errors import UsageError
from redline.cell.cell import Cell
from redline.cell.config import CellConfig, RuntimeName
from redline.cell.errors import CellError, NoCellError
from redline.cell.open import choose_runtime, start_cell
from redline.cell.runtime import Runtime
from redline.cell.warden import Warden

CELL_TRIES = 3
"""Attempts to make a cell while its warden is lost."""


@dataclass
class Wardens:
    """Wardens by runtime. A warden that is gone makes no cell: the next cell waits until a new one serves."""

    _by_runtime: dict[str, Warden] = field(default_factory=dict)
    _chosen: dict[RuntimeName, Runtime] = field(default_factory=dict)
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def runtime(self, name: RuntimeName) -> Runtime:
        """Return the runtime that a configuration asks for, the same for every cell: to find it starts a program.

        Raises:
            UsageError: It is not installed, or does not work for this user.
        """
        if name not in self._chosen:
            self._chosen[name] = choose_runtime(name)
        return self._chosen[name]

    async def serving(self, runtime: Runtime) -> Warden:
        """Return a warden that serves; start it if needed.

        Raises:
            UsageError: This user can make no cells here.
            CellError: The warden did not come up.
        """
        async with self._lock:
            warden = self._by_runtime.get(runtime.name)
            if warden is not None and warden.is_gone:
                del self._by_runtime[runtime.name]
                await warden.wait_until_swept()
                warden = None
            if warden is None:
                warden = await anyio.to_thread.run_sync(runtime.start_warden)
                self._by_runtime[runtime.name] = warden
            return warden

    async def cell(self, shape: CellConfig, runtime: Runtime) -> Cell:
        """Make a cell; if the warden is lost meanwhile, with a new one.

        Raises:
            NoCellError: It cannot be made.
        """
        for attempt in range(1, CELL_TRIES + 1):
            warden: Warden | None = None
            try:
                warden = await self.serving(runtime)
                return await start_cell(shape, warden)
            except (CellError, UsageError, TimeoutError) as error:
                lost = warden is not None and await warden.ended() is not None
                if not lost or attempt == CELL_TRIES:
                    raise NoCellError(str(error) or type(error).__name__) from error
        raise AssertionError("the last attempt returns or raises")

    async def aclose(self) -> None:
        """End the wardens, and with them every remaining cell."""
        while self._by_runtime:
            _, warden = self._by_runtime.popitem()
            await warden.aclose()
