"""What tests look for after a cell is found while it is there, and another cell's is not taken for it."""

import pytest

from redline.cell import CellConfig, open_cell
from redline.seal.drills import footprint_of
from tests.cell.traces import Traces

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


async def test_everything_of_a_noted_cell_is_found_and_nothing_of_another() -> None:
    traces = Traces()
    async with open_cell(CellConfig(runtime="runc")) as other:
        async with open_cell(CellConfig(runtime="runc")) as cell:
            traces.note(cell)
            there = traces.left()
            for thing in ("process", "control group", str(cell.folder), "range-", "namespace"):
                assert any(thing in left for left in there), thing
        assert traces.left() == []
        # As when the other cell had got what the first one gave back.
        traces.footprints.append(footprint_of(other))
        assert all("process" not in left and "namespace" not in left for left in traces.left())
