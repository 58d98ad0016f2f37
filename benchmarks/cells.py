"""Start, exec and removal of cells, in sequence and concurrently."""

import time

import anyio

from redline.cell import CellConfig, open_cell

CELLS = 20
EXECS_EACH = 5
CONCURRENT = 20


def quantiles(milliseconds: list[float]) -> str:
    """Return the median and the 95th percentile as text."""
    ordered = sorted(milliseconds)
    return f"p50 {ordered[len(ordered) // 2]:.0f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.0f} ms"


def life_of_a_cell() -> None:
    """Print the durations of start, exec and removal of a cell."""
    starts: list[float] = []
    execs: list[float] = []
    removals: list[float] = []

    async def live() -> None:
        for _ in range(CELLS):
            begun = time.perf_counter()
            async with open_cell(CellConfig()) as cell:
                starts.append(1000 * (time.perf_counter() - begun))
                for number in range(EXECS_EACH):
                    before = time.perf_counter()
                    done = await cell.exec(["echo", str(number)])
                    execs.append(1000 * (time.perf_counter() - before))
                    if done.stdout != f"{number}\n".encode():
                        raise RuntimeError(f"exec printed {done.stdout!r}")
                leaving = time.perf_counter()
            removals.append(1000 * (time.perf_counter() - leaving))

    anyio.run(live)
    print(f"{CELLS} cells in sequence, each with its own warden:")
    print(f"  start {quantiles(starts)}; exec {quantiles(execs)}; removal {quantiles(removals)}")


def concurrent_cells() -> None:
    """Print how long it takes to create, use and remove many cells concurrently."""

    async def one() -> None:
        async with open_cell(CellConfig()) as cell:
            done = await cell.exec(["echo", "here"])
            if done.stdout != b"here\n":
                raise RuntimeError(f"exec printed {done.stdout!r}")

    async def all_cells() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(CONCURRENT):
                group.start_soon(one)

    begun = time.perf_counter()
    anyio.run(all_cells)
    print(f"{CONCURRENT} concurrent cells: created, used and removed in {time.perf_counter() - begun:.1f} s")
