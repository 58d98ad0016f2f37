"""The self-test of the seal: every probe is run on a cell that it must reject, and must be the one that does."""

from collections.abc import Collection, Sequence

from redline.cell.config import CellConfig
from redline.seal.broken import Breakage
from redline.seal.broken_cells import CELLS
from redline.seal.broken_drills import DRILLS
from redline.seal.broken_network import NETWORKS
from redline.seal.facts import PROBE_NAMES
from redline.seal.matrix import UNBROKEN, Matrix, Measure, Progress, Row, measure_breakages
from redline.seal.quick import probe_cell

__all__ = ["BREAKAGES", "Breakage", "Matrix", "Row", "selftest"]

BREAKAGES = (*CELLS, *NETWORKS, *DRILLS)
"""What is broken."""


async def selftest(
    config: CellConfig | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    *,
    breakages: Sequence[Breakage] = BREAKAGES,
    measure: Measure = probe_cell,
) -> Matrix:
    """Runs the probes on a cell that is not broken and on every broken one.

    Args:
        config: The shape of the cells.
        only: Names of the probes whose breakages are tried, None for all.
        progress: Told of each row as it is known.
        breakages: What is broken; layers above add theirs.
        measure: Runs the probes on a cell.

    Returns:
        The matrix, in the order of the probes.
    """
    chosen = [breakage for breakage in breakages if only is None or breakage.probe in only]
    chosen.sort(key=lambda breakage: PROBE_NAMES.index(breakage.probe))
    matrix = await measure_breakages(config or CellConfig(), chosen, measure, progress)
    return matrix.model_copy(update={"uncovered": _uncovered(only, breakages)})


def _uncovered(only: Collection[str] | None, breakages: Sequence[Breakage]) -> dict[str, str]:
    """Probes for which there is no breakage."""
    broken = {breakage.probe for breakage in breakages}
    return {
        name: UNBROKEN.get(name, "there is no breakage for it")
        for name in PROBE_NAMES
        if name not in broken and (only is None or name in only)
    }
