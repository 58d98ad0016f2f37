"""The cell: the sealed sandbox of one trial."""

from redline.cell.cell import Cell, Node, ProcessRef, open_cell
from redline.cell.command import CommandTimeoutError, Completed
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError

__all__ = [
    "Cell",
    "CellConfig",
    "CellError",
    "CellGoneError",
    "CommandTimeoutError",
    "Completed",
    "Node",
    "ProcessRef",
    "open_cell",
]
