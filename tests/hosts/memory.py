"""A host that runs out of memory: a limit on the cgroup above the nodes of one cell."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from redline.cell import Cell
from redline.cell.footprint import memory_cgroup


@contextmanager
def limit_above(cell: Cell, mib: int) -> Iterator[None]:
    """Limit the memory of the cgroup that holds the cell's nodes."""
    first = cell.nodes["default"].outside
    node = memory_cgroup(first.pid) if first is not None else None
    if node is None:
        pytest.skip("this user's cells have no cgroup")
    v1, v2 = node.parent / "memory.limit_in_bytes", node.parent / "memory.max"
    limit: Path = v2 if v2.exists() else v1
    before = limit.read_text()
    limit.write_text(str(mib << 20))
    try:
        yield
    finally:
        limit.write_text("max" if limit == v2 else before)
