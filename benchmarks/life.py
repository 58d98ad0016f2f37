"""Time until the last process of a cell ends, after a kill during a fork storm and after the end of a lease."""

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
MAX_KILL_MEDIAN_MS, MAX_KILL_MS = 50, 500
LEASES_PER_SIGNAL = 10
MAX_LEASE_SECONDS = 5.0
CONFIG = CellConfig(runtime="runc")


def kill_drills() -> None:
    """Print the duration of a kill during a fork storm, with stopped and setsid processes."""
    drilled: list[Drilled] = []

    async def drill() -> None:
        for _ in range(KILLS):
            async with open_cell(CONFIG) as cell:
                drilled.append(await kill_under_storm(cell))

    anyio.run(drill)
    taken = [1000 * each.seconds for each in drilled]
    print(f"kill during a fork storm of at least {min(each.processes for each in drilled)} processes, {KILLS} runs:")
    print(f"  survivors {sum(each.survivors for each in drilled)}; required 0")
    print(f"  {quantiles(taken)}, max {max(taken):.0f} ms; required p50 < {MAX_KILL_MEDIAN_MS}, max < {MAX_KILL_MS}")


def lease_drills() -> None:
    """Print how many cells ended in time after their harness was stopped or killed."""
    reasons: list[str | None] = []

    numbers = (signal.SIGSTOP, signal.SIGKILL) * LEASES_PER_SIGNAL

    async def one(number: signal.Signals, harness: DrilledHarness) -> None:
        reasons.append(await end_harness(harness, number, MAX_LEASE_SECONDS))

    async def drill() -> None:
        async with (
            harnesses_with_cells(CONFIG, len(numbers), LEASE_SECONDS) as made,
            anyio.create_task_group() as tasks,
        ):
            for number, harness in zip(numbers, made, strict=True):
                tasks.start_soon(one, number, harness)

    anyio.run(drill)
    gone = sum(reason is None for reason in reasons)
    print(
        f"lease of {LEASE_SECONDS:g} s, harness stopped or killed: cell ended within {MAX_LEASE_SECONDS:g} s", end=" "
    )
    print(f"in {gone} of {len(reasons)}")
    for reason in reasons:
        if reason is not None:
            print(f"  {reason}")
