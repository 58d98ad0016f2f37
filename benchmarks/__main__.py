"""Run the named benchmarks, or all of them, and print their figures; comparisons are ratios within one run."""

import sys
from collections.abc import Callable

from benchmarks.against_local import against_local
from benchmarks.cells import concurrent_cells, life_of_a_cell
from benchmarks.flood import flood
from benchmarks.life import kill_drills, lease_drills
from benchmarks.processor import processor, profile
from benchmarks.report import report
from benchmarks.scale import scale
from benchmarks.seal import seals
from benchmarks.verifier import verifier
from benchmarks.watches import watches
from benchmarks.workers import workers

BENCHMARKS: dict[str, Callable[[], None]] = {
    "local": against_local,
    "life": life_of_a_cell,
    "concurrent": concurrent_cells,
    "kill": kill_drills,
    "lease": lease_drills,
    "seal": seals,
    "processor": processor,
    "profile": profile,
    "verifier": verifier,
    "report": report,
    "scale": scale,
    "watches": watches,
    "flood": flood,
    "workers": workers,
}

for name in sys.argv[1:] or [name for name in BENCHMARKS if name != "profile"]:
    BENCHMARKS[name]()
