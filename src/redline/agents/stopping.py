"""Ending processes of a cell from outside, with everything that they are running."""

from collections.abc import Iterable
from importlib.resources import files

from redline.cell import Cell, ProcessRef
from redline.verify.scorch import stopped

STOP_PROGRAM = files("redline.agents").joinpath("programs/stop.py")


async def stop_processes(cell: Cell, processes: Iterable[ProcessRef], node: str) -> int:
    """Kills processes of a node with their descendants; returns how many of them still ran.

    Raises:
        CellError: The cell does not answer.
        TimeoutError: It does not in time.
    """
    request = {"processes": [{"pid": ref.pid, "start": ref.start} for ref in processes]}
    async with stopped(cell):
        answer, _ = await cell.run_with_cell_privileges(STOP_PROGRAM.read_text(encoding="utf-8"), request, node=node)
    return len(answer["stopped"])
