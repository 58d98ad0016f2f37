"""A cell that the host sees into: the warden's process enters its namespaces, and the host's /proc shows it."""

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import anyio
import anyio.to_thread

from redline.cell.cell import START_TIMEOUT, Cell
from redline.cell.command import run_command
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.load import load_program
from redline.cell.messages import close_all, memory_file
from redline.cell.programs.cgroups import is_frozen, request_freeze
from redline.cell.traits import Observer
from redline.cell.warden import Warden

SPARE_SOCKETS = 40
"""Sockets of a cell's network that are made together. A trial with one copy uses fewer."""
SPARE_SECONDS = 2.0
FREEZE_SECONDS = 8.0
"""Time to freeze. A cell whose processors are all busy takes seconds to run each process to where it can stop."""

FREEZE_PAUSE, MAX_FREEZE_PAUSE = 0.0005, 0.01
CONNECT_UNIX = "redline.cell.programs.connect_unix"


class OutsideCell(Cell):
    """A cell that is observed from outside."""

    observer: ClassVar[Observer] = "outside"

    def __init__(self, cell_id: str, config: CellConfig, warden: Warden) -> None:
        """Initialise a cell that has no node yet."""
        super().__init__(cell_id, config, warden)
        self._sockets: list[tuple[socket.AddressFamily, socket.socket]] = []

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
        """Run a program in the warden's process, which has joined the cell's user namespace."""
        number = self._warden.number_of(program)
        message = {"op": "join", "cell": self.id, "program": number, "request": dict(request), "timeout": timeout}
        with memory_file(data) as given:
            return await self._warden.call(message, [*held, *given], timeout + SPARE_SECONDS)

    async def release(self, held: Sequence[int], *, node: str = "default") -> None:
        """Close descriptors that `run_with_cell_privileges` returned."""
        close_all(held)

    async def write_held(self, held: int, offset: int, data: bytes, *, node: str = "default") -> None:
        """Write to a file of the cell through a descriptor that `run_with_cell_privileges` returned."""
        rest = memoryview(data)
        while rest:
            count = await anyio.to_thread.run_sync(os.pwrite, held, rest, offset)
            rest, offset = rest[count:], offset + count

    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        """Connect to a listener inside with a socket of the cell's network namespace."""
        self._node(node)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = await self._socket(family)
        try:
            return await _connect(made, (address, port), timeout)
        except ConnectionRefusedError:
            self._sockets.append((family, made))  # unconnected as before, so it can be used again
            raise
        except BaseException:
            made.close()
            raise

    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        """Connect to a unix socket inside."""
        self._node(node)
        request = {"node": node, "path": path, "timeout": timeout}
        answer, fds = await self.run_with_cell_privileges(load_program(CONNECT_UNIX), request, timeout=timeout + 1.0)
        if not fds:
            raise OSError(answer["errno"], os.strerror(answer["errno"]), path)
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        return made

    async def _socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a spare socket of the cell's network; several are made at a time, because each request is a fork."""
        for index, (kind, spare) in enumerate(self._sockets):
            if kind == family:
                del self._sockets[index]
                return spare
        _, fds = await self._warden.call({"op": "sockets", "cell": self.id, "families": [int(family)] * SPARE_SOCKETS})
        self._keep_sockets(fds)
        return self._sockets.pop()[1]

    def _keep_sockets(self, made: Sequence[int]) -> None:
        for fd in made:
            one = socket.socket(fileno=fd)
            one.setblocking(False)
            self._sockets.append((one.family, one))

    async def _set_frozen(self, frozen: bool) -> None:
        folder = request_freeze(self.cgroup, frozen)
        if folder is None:
            await self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)
            return
        try:
            with anyio.fail_after(FREEZE_SECONDS):
                pause = FREEZE_PAUSE
                while is_frozen(folder) != frozen:
                    await anyio.sleep(pause)
                    pause = min(2 * pause, MAX_FREEZE_PAUSE)
        except TimeoutError:
            raise CellError("the cell did not " + ("freeze" if frozen else "thaw")) from None
        except OSError as error:
            raise CellGoneError(f"the cgroup of the cell is gone: {error.strerror}") from error

    async def _signal(self, number: signal.Signals) -> None:
        for node in self.nodes.values():
            await run_command(node.control, {"op": "signal", "signal": number}, b"", START_TIMEOUT, 1 << 10)

    async def _close_connections(self) -> None:
        for _, spare in self._sockets:
            spare.close()
        self._sockets.clear()
        await super()._close_connections()


async def _connect(made: socket.socket, address: tuple[str, int], timeout: float) -> socket.socket:
    with anyio.fail_after(timeout):
        while True:
            try:
                # Again once it is writable: only that reports the result and leaves a refused socket unconnected.
                made.connect(address)
                return made
            except BlockingIOError:
                await anyio.wait_writable(made)
