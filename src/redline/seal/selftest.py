"""The self-test of the seal: every probe is run on a cell that it must reject, and must be the one that does."""

from collections.abc import Collection, Sequence

from redline.cell.config import CellConfig
from redline.seal.broken import InjectedDefect
from redline.seal.broken_cells import CELLS
from redline.seal.broken_drills import DRILLS
from redline.seal.broken_network import NETWORKS
from redline.seal.facts import PROBE_NAMES
from redline.seal.matrix import UNBROKEN, Matrix, Measure, Progress, Row, measure_defects
from redline.seal.quick import probe_cell

__all__ = ["INJECTED_DEFECTS", "InjectedDefect", "Matrix", "Row", "selftest"]

INJECTED_DEFECTS = (*CELLS, *NETWORKS, *DRILLS)
"""What is broken."""


async def selftest(
    config: CellConfig | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    *,
    defects: Sequence[InjectedDefect] = INJECTED_DEFECTS,
    measure: Measure = probe_cell,
) -> Matrix:
    """Runs the probes on a cell that is not broken and on every broken one.

    Args:
        config: The shape of the cells.
        only: Names of the probes whose defects are tried, None for all.
        progress: Told of each row as it is known.
        defects: What is broken; layers above add theirs.
        measure: Runs the probes on a cell.

    Returns:
        The matrix, in the order of the probes.
    """
    chosen = [defect for defect in defects if only is None or defect.probe in only]
    chosen.sort(key=lambda defect: PROBE_NAMES.index(defect.probe))
    matrix = await measure_defects(config or CellConfig(), chosen, measure, progress)
    return matrix.model_copy(update={"uncovered": _uncovered(only, defects)})


def _uncovered(only: Collection[str] | None, defects: Sequence[InjectedDefect]) -> dict[str, str]:
    """Probes for which there is no defect."""
    broken = {defect.probe for defect in defects}
    return {
        name: UNBROKEN.get(name, "there is no defect for it")
        for name in PROBE_NAMES
        if name not in broken and (only is None or name in only)
    }
