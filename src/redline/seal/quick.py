"""Measure the seal of a running cell: the quick set, which gates every trial, or every probe that inspects one cell."""

import time
from collections.abc import Sequence

from redline.cell.cell import Cell
from redline.cell.errors import CellError
from redline.cell.node import ProcessRef
from redline.seal.facts import Facts
from redline.seal.gather import gather
from redline.seal.probes import PROBES, QUICK
from redline.seal.report import SealReport, report_of


async def quick_seal(cell: Cell, *, node: str = "default", guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Run the quick set of probes on one node, in one process that runs as the agent.

    Args:
        cell: The cell.
        node: The node to probe.
        guarded: Processes whose memory the agent must not be able to open.

    Returns:
        Which probes passed and failed. If the cell is gone or its answer is invalid, every probe has failed.
    """
    return await _measure(cell, node, guarded, full=False)


async def probe_cell(cell: Cell, *, node: str = "default", guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Run every probe that inspects one cell; drills, which make their own cells, are not included.

    Args:
        cell: A fresh cell, in which no command has run yet.
        node: The node to probe.
        guarded: Processes whose memory the agent must not be able to open.

    Returns:
        As for `quick_seal`.
    """
    return await _measure(cell, node, guarded, full=True)


async def quick_seal_of_all(cell: Cell, *, guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Run the quick set of probes on every node of a cell.

    Args:
        cell: The cell.
        guarded: Processes, on any node, whose memory the agent must not be able to open.

    Returns:
        The report of the first node whose seal is not proved; if all are proved, that of the first node.
    """
    reports = [
        await quick_seal(cell, node=node, guarded=[process for process in guarded if _is_of(process, node, cell)])
        for node in cell.nodes
    ]
    return next((report for report in reports if not report.verified), reports[0])


def _is_of(process: ProcessRef, node: str, cell: Cell) -> bool:
    """Return whether a pid is valid in a node: if the host cannot see into the cell, each node has its own pids."""
    return cell.observer == "outside" or process.node == node


async def _measure(cell: Cell, node: str, guarded: Sequence[ProcessRef], *, full: bool) -> SealReport:
    begun = time.perf_counter()
    try:
        facts = await gather(cell, node, guarded, full=full)
    except (CellError, OSError, TimeoutError, ValueError) as error:
        facts = Facts(errors={"": f"the probes did not run: {error}"})
    probes = PROBES if full else QUICK
    found = [(probe, probe.judge(facts)) for probe in probes]
    return report_of(cell, found, full=full, seconds=time.perf_counter() - begun)
