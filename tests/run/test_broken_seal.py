"""The drills above the cell fail where what they drill is broken."""

import pytest

from redline.cell import CellConfig
from redline.run.broken_seal import ABOVE_THE_CELL
from redline.seal.broken import Breakage


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("breakage", ABOVE_THE_CELL, ids=lambda each: each.probe)
async def test_a_drill_fails_under_its_breakage(breakage: Breakage) -> None:
    assert breakage.drill is not None
    assert await breakage.drill(CellConfig(runtime="runc"))
