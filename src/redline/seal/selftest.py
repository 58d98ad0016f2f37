"""The self-test of the seal: for each injected defect, its own probe must fail, and no unrelated one."""

from collections.abc import Collection, Sequence

from redline.cell.config import CellConfig
from redline.seal.defects import InjectedDefect
from redline.seal.defects.cells import CELLS
from redline.seal.defects.drills import DRILLS
from redline.seal.defects.network import NETWORKS
from redline.seal.facts import PROBE_NAMES
from redline.seal.matrix import NEVER_FAILS, Matrix, Measure, Progress, Row, measure_defects
from redline.seal.quick import probe_cell

__all__ = ["INJECTED_DEFECTS", "InjectedDefect", "Matrix", "Row", "selftest"]

INJECTED_DEFECTS = (*CELLS, *NETWORKS, *DRILLS)
"""The defects of this layer; layers above add their own."""


async def selftest(
    config: CellConfig | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    *,
    defects: Sequence[InjectedDefect] = INJECTED_DEFECTS,
    measure: Measure = probe_cell,
) -> Matrix:
    """Run the probes on a cell without a defect and under every defect.

    Args:
        config: Configuration of the cells.
        only: Names of the probes whose defects are measured, None for all.
        progress: Called with each row when it is complete.
        defects: The defects to inject.
        measure: Runs the probes on a cell.

    Returns:
        The matrix, in the order of the probes.
    """
    chosen = [defect for defect in defects if only is None or defect.probe in only]
    chosen.sort(key=lambda defect: PROBE_NAMES.index(defect.probe))
    matrix = await measure_defects(config or CellConfig(), chosen, measure, progress)
    return matrix.model_copy(update={"uncovered": _uncovered(only, defects)})


def _uncovered(only: Collection[str] | None, defects: Sequence[InjectedDefect]) -> dict[str, str]:
    """Return the probes without a defect, each with the reason."""
    covered = {defect.probe for defect in defects}
    return {
        name: NEVER_FAILS.get(name, "no defect is defined for it")
        for name in PROBE_NAMES
        if name not in covered and (only is None or name in only)
    }
