"""What measuring the seal costs: the full set when a run starts, the quick set around every trial."""

import time

import anyio

from benchmarks.cells import quantiles
from redline.cell import CellConfig, open_cell
from redline.scenarios import full_seal
from redline.seal import quick_seal

QUICK, FULL = 20, 5
QUICK_MS, FULL_MS = 150, 3000
CONFIG = CellConfig(runtime="runc")


def seals() -> None:
    """Prints how long both sets of probes take."""
    quick: list[float] = []
    full: list[float] = []

    async def measure() -> None:
        async with open_cell(CONFIG) as cell:
            for _ in range(QUICK):
                begun = time.perf_counter()
                report = await quick_seal(cell)
                quick.append(1000 * (time.perf_counter() - begun))
                assert report.verified, report.summary()
        for _ in range(FULL):
            report = await full_seal(CONFIG)
            full.append(1000 * report.seconds)
            assert report.verified, report.summary()

    anyio.run(measure)
    print(f"quick set of probes on {CONFIG.runtime}: {quantiles(quick)}; to be under {QUICK_MS} ms")
    print(f"full set of probes on {CONFIG.runtime}: {quantiles(full)}; to be under {FULL_MS} ms")
