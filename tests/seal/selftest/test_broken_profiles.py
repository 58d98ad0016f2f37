"""Probe 37: where a bare cell and broken ones are not rejected, it is noticed."""

import pytest

from redline.cell import CellConfig
from redline.seal.broken import DefectiveCell, InjectedDefect
from redline.seal.broken_profiles import BARE_FAILS, SAMPLE, broken_profiles_fail

RUNC = CellConfig(runtime="runc")


@pytest.mark.cell
@pytest.mark.anyio
async def test_profiles_that_are_not_rejected_are_named() -> None:
    whole = [InjectedDefect(name, f"whole {name}", DefectiveCell()) for name in SAMPLE]
    reason = await broken_profiles_fail(RUNC, whole, bare=DefectiveCell())
    assert reason is not None
    assert all(f"whole {name}" in reason for name in SAMPLE)
    assert all(name in reason.partition("bare cell passes")[2] for name in BARE_FAILS)
