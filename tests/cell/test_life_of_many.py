"""A hundred cells in a row and fifty concurrently leave nothing behind, and the harness does not grow."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from redline.cell import CellConfig
from redline.cell.open import choose_runtime, start_cell
from redline.cell.warden import Warden
from redline.seal import quick_seal
from tests.cell.traces import Traces, open_descriptors, resident_kib

pytestmark = [pytest.mark.cell, pytest.mark.anyio]

LOOP, WARM_UP, CROWD = 100, 20, 50
GROWTH_KIB = 1024
"""Maximum growth of memory in eighty cells; a leak of one answer of the seal for each would exceed it."""

SMALL = CellConfig(runtime="runc", home_mib=16, tmp_mib=8, var_tmp_mib=8, shm_mib=8, working_mib=64)


@pytest.fixture
async def warden() -> AsyncIterator[Warden]:
    made = choose_runtime("runc").start_warden()
    try:
        yield made
    finally:
        await made.aclose()
        assert not made.harness.owner.exists()


async def live(warden: Warden, traces: Traces) -> None:
    """Make, use and remove one cell with a daemon in it."""
    cell = await start_cell(SMALL, warden)
    try:
        traces.note(cell)
        await cell.exec(["sh", "-c", "setsid sleep 1000 & : >file"])
        report = await quick_seal(cell)
        assert report.verified, report.summary()
    finally:
        await cell.remove()


async def settled_descriptors() -> int:
    """Return the lowest of several counts: on a loaded host, a descriptor of the last cell can still be closing."""
    counts = []
    for _ in range(10):
        counts.append(open_descriptors())
        await anyio.sleep(0.05)
    return min(counts)


@pytest.mark.long
async def test_a_hundred_cells_in_a_row_leave_nothing_and_the_harness_does_not_grow(warden: Warden) -> None:
    traces = Traces()
    for number in range(LOOP):
        if number == WARM_UP:
            descriptors, ours = await settled_descriptors(), resident_kib()
            wardens = resident_kib(warden._process.pid)
        await live(warden, traces)
    # Before any other check, since checks use memory too.
    grown = {"harness": resident_kib() - ours, "warden": resident_kib(warden._process.pid) - wardens}
    assert await settled_descriptors() == descriptors
    assert traces.left() == []
    assert not list(warden.cells.iterdir())
    assert max(grown.values()) < GROWTH_KIB, grown
    assert no_children_of(warden)


@pytest.mark.long
async def test_fifty_cells_at_once_leave_nothing(warden: Warden) -> None:
    descriptors, traces = open_descriptors(), Traces()
    all_up = anyio.Event()

    async def one() -> None:
        cell = await start_cell(SMALL, warden)
        try:
            traces.note(cell)
            if len(traces.folders) == CROWD:
                all_up.set()
            await all_up.wait()
            assert (await cell.exec(["echo", "here"])).stdout == b"here\n"
        finally:
            with anyio.CancelScope(shield=True):
                await cell.remove()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(CROWD):
                tasks.start_soon(one)
    assert len(set(traces.claims)) == CROWD
    assert traces.left() == []
    assert open_descriptors() == descriptors
    assert no_children_of(warden)


def no_children_of(warden: Warden) -> bool:
    pid = warden._process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
