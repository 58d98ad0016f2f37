"""Giving files and folders of a cell to its root, who is nobody that an agent can become."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from redline.cell import Cell

ROOT: Final = 0
AGENT: Final = 1000


async def give(
    cell: Cell, *, held: Sequence[int] = (), folders: Sequence[str] = (), user: int, mode: int, node: str
) -> None:
    """Makes a user the owner of files that are held open, and of folders.

    Raises:
        CellError: It could not be done.
    """
    program = files("redline.guardrails").joinpath("programs/lock.py").read_text(encoding="utf-8")
    request: Mapping[str, object] = {"node": node, "folders": list(folders), "user": user, "mode": mode}
    await cell.run_with_cell_privileges(program, request, held=held, node=node)
