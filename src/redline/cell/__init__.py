"""The cell: the sealed sandbox of one trial.

The contract is in `config`, `cell`, `traits` and `runtime`; `oci` and `docker` implement it; `open` chooses one.
"""

from redline.cell.cell import Cell
from redline.cell.command import CommandTimeoutError, Completed
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.node import Node, ProcessRef
from redline.cell.open import open_cell

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
