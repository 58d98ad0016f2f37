"""The traces that tests search for are found while a cell exists, and are never those of another cell."""

import pytest

from redline.cell import CellConfig, open_cell
from redline.seal.drills import footprint_of
from tests.cell.traces import Traces

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


async def test_everything_of_a_recorded_cell_is_found_and_nothing_of_another() -> None:
    traces = Traces()
    async with open_cell(CellConfig(runtime="runc")) as other:
        async with open_cell(CellConfig(runtime="runc")) as cell:
            traces.note(cell)
            there = traces.left()
            for thing in ("process", "control group", str(cell.folder), "range-", "namespace"):
                assert any(thing in left for left in there), thing
        assert traces.left() == []
        # As if the other cell had claimed what the first one released.
        traces.footprints.append(footprint_of(other))
        assert all("process" not in left and "namespace" not in left for left in traces.left())
