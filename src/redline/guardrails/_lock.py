"""Change the owner of files and folders of a cell, such as to its root, which an agent cannot become."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from redline.cell import Cell

ROOT: Final = 0
AGENT: Final = 1000


async def change_owner(
    cell: Cell, *, held: Sequence[int] = (), folders: Sequence[str] = (), user: int, mode: int, node: str
) -> None:
    """Change the owner and the mode of open files and of folders.

    Raises:
        CellError: The change failed.
    """
    program = files("redline.guardrails").joinpath("programs/lock.py").read_text(encoding="utf-8")
    request: Mapping[str, object] = {"node": node, "folders": list(folders), "user": user, "mode": mode}
    await cell.run_with_cell_privileges(program, request, held=held, node=node)
