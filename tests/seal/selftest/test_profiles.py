"""Probe 37 fails if a bare cell or a broken one is not rejected."""

import pytest

from redline.cell import CellConfig
from redline.seal.defects import DefectiveCell, InjectedDefect
from redline.seal.profiles import BARE_FAILS, SAMPLE, broken_profiles_fail

RUNC = CellConfig(runtime="runc")


@pytest.mark.cell
@pytest.mark.anyio
async def test_profiles_that_are_not_rejected_are_named() -> None:
    correct = [InjectedDefect(name, f"correct {name}", DefectiveCell()) for name in SAMPLE]
    reason = await broken_profiles_fail(RUNC, correct, bare=DefectiveCell())
    assert reason is not None
    assert all(f"correct {name}" in reason for name in SAMPLE)
    assert all(name in reason.partition("bare cell passes")[2] for name in BARE_FAILS)
