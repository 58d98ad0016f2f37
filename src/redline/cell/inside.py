"""A cell that the host cannot see into: an attendant, a program of redline in each node, observes it from inside."""

import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import anyio
import anyio.to_thread

from redline.cell.attendant import Attendant
from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.errors import CellGoneError
from redline.cell.traits import Observer
from redline.cell.warden import Warden


class InsideCell(Cell):
    """A cell that is observed from inside."""

    observer: ClassVar[Observer] = "inside"

    def __init__(self, cell_id: str, config: CellConfig, warden: Warden) -> None:
        """Initialise a cell that has no node yet."""
        super().__init__(cell_id, config, warden)
        self._attendants: dict[str, Attendant] = {}

    def attendant(self, node: str) -> Attendant:
        """Return the attendant of a node."""
        return self._attendants[node] if node in self._attendants else super().attendant(node)

    async def run_with_cell_privileges(
        self,
        program: str,
        request: Mapping[str, object],
        *,
        held: Sequence[int] = (),
        data: bytes | None = None,
        timeout: float = 30.0,
        node: str = "default",
    ) -> tuple[dict[str, Any], list[int]]:
        """Run a program in a node, as the cell's root. This also works in a cell that an alarm stopped."""
        if not self.alive:
            raise CellGoneError("the cell is not running")
        return await self.attendant(node).join(program, request, held=held, data=data, timeout=timeout)

    async def release(self, held: Sequence[int], *, node: str = "default") -> None:
        """Close descriptors that `run_with_cell_privileges` returned; those of a node end with the node."""
        if self.alive and node in self._attendants:
            await self._attendants[node].release(held)

    async def write_held(self, held: int, offset: int, data: bytes, *, node: str = "default") -> None:
        """Write to a file of the cell through a descriptor that `run_with_cell_privileges` returned."""
        await self.attendant(node).write(held, offset, data)

    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        """Connect to a listener inside through the attendant."""
        self._node(node)
        return await self.attendant(node).connect(address, port, timeout)

    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        """Connect to a unix socket inside through the attendant."""
        self._node(node)
        return await self.attendant(node).connect_unix(path, timeout)

    async def _set_frozen(self, frozen: bool) -> None:
        await self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    async def _signal(self, number: signal.Signals) -> None:
        for attendant in self._attendants.values():
            await attendant.signal(number)

    def responsive(self) -> bool:
        """Return whether every node's first process and attendant still run."""
        return super().responsive() and all(attendant.is_serving for attendant in self._attendants.values())

    async def _close_connections(self) -> None:
        for attendant in self._attendants.values():
            await anyio.to_thread.run_sync(attendant.close, abandon_on_cancel=True)
        await super()._close_connections()
