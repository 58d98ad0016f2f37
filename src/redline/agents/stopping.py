"""Kill processes of a cell from outside, with their descendants."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files

from redline.cell import Cell, ProcessRef
from redline.verify.census import frozen

STOP_PROGRAM = files("redline.agents").joinpath("programs/stop.py")


async def stop_processes(cell: Cell, processes: Iterable[ProcessRef], node: str) -> int:
    """Kill processes of a node with their descendants; return how many of the processes were still running.

    Raises:
        CellError: The cell does not answer.
        TimeoutError: The cell does not answer in time.
    """
    request = {"processes": [{"pid": ref.pid, "start": ref.start} for ref in processes]}
    async with _stopped(cell):
        answer, _ = await cell.run_with_cell_privileges(STOP_PROGRAM.read_text(encoding="utf-8"), request, node=node)
    return len(answer["stopped"])


@asynccontextmanager
async def _stopped(cell: Cell) -> AsyncIterator[None]:
    """Stop the cell if processes must be identified by pid alone: from inside, where pidfd might not exist."""
    if cell.observer == "outside":
        yield
        return
    async with frozen(cell):
        yield
