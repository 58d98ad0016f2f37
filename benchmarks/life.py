"""Kills under a fork storm, and leases that end: how long until the last process is gone, counted from outside."""

import signal

import anyio

from benchmarks.cells import quantiles
from redline.cell import CellConfig, open_cell
from redline.cell.warden import LEASE_SECONDS
from redline.seal.drills import (
    Drilled,
    DrilledHarness,
    end_harness,
    harnesses_with_cells,
    kill_under_storm,
)

KILLS = 50
KILL_MEDIAN_MS, KILL_MOST_MS = 50, 500
LEASES_OF_EACH = 10
LEASE_BOUND = 5.0
CONFIG = CellConfig(runtime="runc")


def kill_drills() -> None:
    """Prints what a kill takes in the midst of a fork storm, with stopped and setsid processes."""
    drilled: list[Drilled] = []

    async def drill() -> None:
        for _ in range(KILLS):
            async with open_cell(CONFIG) as cell:
                drilled.append(await kill_under_storm(cell))

    anyio.run(drill)
    taken = [1000 * each.seconds for each in drilled]
    print(f"kill under a fork storm of {min(each.processes for each in drilled)} processes or more, {KILLS} runs:")
    print(f"  survivors {sum(each.survivors for each in drilled)}; to be 0")
    print(f"  {quantiles(taken)}, max {max(taken):.0f} ms; p50 to be under {KILL_MEDIAN_MS}, max under {KILL_MOST_MS}")


def lease_drills() -> None:
    """Prints how many cells were gone in time after their harness was stopped or killed."""
    reasons: list[str | None] = []

    numbers = (signal.SIGSTOP, signal.SIGKILL) * LEASES_OF_EACH

    async def one(number: signal.Signals, harness: DrilledHarness) -> None:
        reasons.append(await end_harness(harness, number, LEASE_BOUND))

    async def drill() -> None:
        async with (
            harnesses_with_cells(CONFIG, len(numbers), LEASE_SECONDS) as made,
            anyio.create_task_group() as tasks,
        ):
            for number, harness in zip(numbers, made, strict=True):
                tasks.start_soon(one, number, harness)

    anyio.run(drill)
    gone = sum(reason is None for reason in reasons)
    print(f"leases of {LEASE_SECONDS:g} s, harness stopped or killed: cell gone within {LEASE_BOUND:g} s", end=" ")
    print(f"in {gone} of {len(reasons)}")
    for reason in reasons:
        if reason is not None:
            print(f"  {reason}")
