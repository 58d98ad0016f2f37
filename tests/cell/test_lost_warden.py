"""A warden that is lost: why it ended, whether something outside caused it, and how it is replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from redline.cell import Cell, CellConfig, open_cell
from redline.cell.errors import CellGoneError, NoCellError
from redline.cell.oci import cell as oci
from redline.cell.open import choose_runtime, start_cell
from redline.cell.programs.lease import BUSY_LEASES
from redline.cell.state import IdMaps, claim_ids
from redline.cell.warden import LeaseClock, Warden
from redline.cell.wardens import Wardens
from tests.cell.traces import control_groups

pytestmark = [pytest.mark.cell, pytest.mark.anyio]

CONFIG = CellConfig(runtime="runc")
LEASE_SECONDS = 1.5

STOPPED_HARNESS = f"""
import anyio, os, sys
from redline.cell import CellConfig, open_cell

async def main():
    async with open_cell(CellConfig(runtime="runc"), lease_seconds={LEASE_SECONDS}) as cell:
        print("made", flush=True)
        sys.stdin.readline()  # blocks the event loop, as a stop does
        gone = not cell.responsive()
        end = await cell.warden_end()
        print(gone, end and end.from_outside, end and end.what, flush=True)

anyio.run(main)
"""

BUSY_HARNESS = STOPPED_HARNESS.replace(
    "sys.stdin.readline()  # blocks the event loop, as a stop does",
    "import time; end = time.time() + float(sys.stdin.readline()); sys.setswitchinterval(60)\n"
    "        while time.time() < end: pass\n"
    "        sys.setswitchinterval(0.005); time.sleep(1.0)",
)
"""Work that keeps the process from renewing its lease: no other thread of it can run."""


def harness(program: str) -> "subprocess.Popen[str]":
    made = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None and made.stdout.readline() == "made\n"
    return made


@pytest.fixture
async def wardens() -> AsyncIterator[Wardens]:
    made = Wardens()
    yield made
    await made.aclose()


async def kill(warden: Warden) -> None:
    os.kill(warden._process.pid, signal.SIGKILL)


async def test_a_cell_whose_warden_is_killed_while_it_is_made_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    warden = choose_runtime("runc").start_warden()
    owner = warden.harness.owner

    def claim_and_lose_the_warden(state: Path, folder: Path) -> IdMaps:
        ids = claim_ids(state, folder)
        os.kill(warden._process.pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while owner.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        return ids

    monkeypatch.setattr(oci, "claim_ids", claim_and_lose_the_warden)
    try:
        with pytest.raises(CellGoneError):
            await start_cell(CONFIG, warden)
    finally:
        await warden.aclose()
    assert not owner.exists()


async def test_a_killed_warden_was_ended_from_outside() -> None:
    async with open_cell(CONFIG) as cell:
        assert await cell.warden_end() is None
        await kill(cell._warden)
        end = await cell.warden_end()
        assert end is not None and (end.what, end.from_outside) == ("the warden was killed", True)


async def test_a_warden_that_ends_by_its_own_fault_was_not_ended_from_outside() -> None:
    """An agent might have caused it."""
    async with open_cell(CONFIG) as cell:
        os.kill(cell._warden._process.pid, signal.SIGSEGV)
        end = await cell.warden_end()
        assert end is not None and not end.from_outside


async def test_a_cell_that_its_agent_ends_has_a_warden() -> None:
    async with open_cell(CONFIG) as cell:
        os.kill(cell.nodes["default"].init_pid, signal.SIGKILL)
        with anyio.fail_after(1):
            assert await cell.warden_end() is None


@pytest.mark.long
async def test_a_harness_detects_that_it_was_stopped() -> None:
    stopped = harness(STOPPED_HARNESS)
    try:
        stopped.send_signal(signal.SIGSTOP)
        await anyio.sleep(2 * LEASE_SECONDS)
        stopped.send_signal(signal.SIGCONT)
        said, errors = stopped.communicate("\n", timeout=30)
    finally:
        stopped.kill()
    assert errors == ""  # such as that of a thread which sweeps what the warden has swept
    assert said.startswith("True True the harness was stopped for 3 s, longer than its lease")


@pytest.mark.long
@pytest.mark.parametrize(
    ("leases", "said"), [(2, "False None None\n"), (BUSY_LEASES + 2, "True False the warden ended with status 0\n")]
)
async def test_a_harness_that_computes_keeps_its_cells_up_to_the_maximum(leases: int, said: str) -> None:
    busy = harness(BUSY_HARNESS)
    try:
        assert busy.communicate(f"{leases * LEASE_SECONDS}\n", timeout=60) == (said, "")
    finally:
        busy.kill()


@pytest.mark.long
async def test_a_pause_of_harness_and_warden_ends_no_cell() -> None:
    """As where the host is suspended, or a hypervisor gives it no processor."""
    paused = harness(STOPPED_HARNESS)
    try:
        (warden,) = (
            int(pid)
            for children in Path(f"/proc/{paused.pid}/task").glob("*/children")
            for pid in children.read_text().split()
        )
        os.kill(warden, signal.SIGSTOP)
        paused.send_signal(signal.SIGSTOP)
        await anyio.sleep(3 * LEASE_SECONDS)
        os.kill(warden, signal.SIGCONT)
        await anyio.sleep(0.3)
        paused.send_signal(signal.SIGCONT)
        await anyio.sleep(1.0)
        said, errors = paused.communicate("\n", timeout=30)
    finally:
        paused.kill()
    assert (said, errors) == ("False None None\n", "")


def test_the_clock_forgets_an_old_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(LeaseClock, "_now", staticmethod(lambda: (now[0], 0.0)))
    clock = LeaseClock(4.0)
    now[0] = 3.9
    assert clock.stopped == 0
    now[0] = 10.0
    assert clock.stopped == 10.0
    for seconds in (10.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0):
        now[0] = seconds
        clock.beat()
        assert clock.stopped == 10.0
    now[0] = 30.5
    assert clock.stopped == 0


async def test_the_next_cell_is_made_by_a_new_warden(wardens: Wardens) -> None:
    runtime = choose_runtime("runc")
    first = await wardens.serving(runtime)
    lost = await wardens.cell(CONFIG, runtime)
    await kill(first)
    cell = await wardens.cell(CONFIG, runtime)
    assert cell._warden is not first and not first.harness.owner.exists()
    assert (await cell.exec(["echo", "here"])).stdout == b"here\n"
    await lost.remove()
    await cell.remove()
    assert not control_groups(f"pod-*-{lost.id}") and not control_groups(f"pod-*-{cell.id}")


@pytest.mark.long
async def test_cells_requested_concurrently_share_the_new_warden(wardens: Wardens) -> None:
    runtime = choose_runtime("runc")
    await kill(await wardens.serving(runtime))
    cells: list[Cell] = []

    async def make() -> None:
        cells.append(await wardens.cell(CONFIG, runtime))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(make)
    assert len(cells) == 4 and len({cell._warden for cell in cells}) == 1
    for cell in cells:
        await cell.remove()


async def test_a_warden_killed_while_it_makes_a_cell_loses_no_trial(wardens: Wardens) -> None:
    runtime = choose_runtime("runc")
    first = await wardens.serving(runtime)

    async def kill_in_the_midst() -> None:
        deadline = time.monotonic() + 20
        while not any(first.cells.glob("*/default/config.json")) and time.monotonic() < deadline:
            await anyio.sleep(0.005)
        await kill(first)

    async with anyio.create_task_group() as group:
        group.start_soon(kill_in_the_midst)
        cell = await wardens.cell(CONFIG, runtime)
    assert cell._warden is not first and cell.responsive()
    await cell.remove()


async def test_a_cell_that_cannot_be_made_is_reported_as_such(wardens: Wardens) -> None:
    runtime = choose_runtime("runc")
    warden = await wardens.serving(runtime)
    warden.harness.init.unlink()
    with pytest.raises(NoCellError):
        await wardens.cell(CONFIG, runtime)
