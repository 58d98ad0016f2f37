"""The drills of the layers above the cell fail with an injected defect."""

import pytest

from redline.cell import CellConfig
from redline.run.broken_seal import ABOVE_THE_CELL
from redline.seal.defects import InjectedDefect


@pytest.mark.long
@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("defect", ABOVE_THE_CELL, ids=lambda each: each.probe)
async def test_a_drill_fails_with_its_injected_defect(defect: InjectedDefect) -> None:
    assert defect.drill is not None
    assert await defect.drill(CellConfig(runtime="runc"))
