"""Duration of measuring the seal: the full set before a run, the quick set before and after every trial."""

import time

import anyio

from benchmarks.cells import quantiles
from redline.cell import CellConfig, open_cell
from redline.scenarios import full_seal
from redline.seal import quick_seal

QUICK, FULL = 20, 5
MAX_QUICK_MS, MAX_FULL_MS = 150, 3000
CONFIG = CellConfig(runtime="runc")


def seals() -> None:
    """Print the duration of both sets of probes."""
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
    print(f"quick set of probes on {CONFIG.runtime}: {quantiles(quick)}; required < {MAX_QUICK_MS} ms")
    print(f"full set of probes on {CONFIG.runtime}: {quantiles(full)}; required < {MAX_FULL_MS} ms")
