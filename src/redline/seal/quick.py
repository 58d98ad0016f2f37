"""The seal of a running cell: its quick set, which gates every trial, and all that can be asked of one cell."""

import time
from collections.abc import Sequence

from redline.cell.cell import Cell, ProcessRef
from redline.cell.errors import CellError
from redline.seal.facts import Facts
from redline.seal.gather import gather
from redline.seal.probes import PROBES, QUICK
from redline.seal.report import SealReport, report_of


async def quick_seal(cell: Cell, *, node: str = "default", guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Measures the seal of one node as the agent would meet it, in one command.

    Args:
        cell: The cell.
        node: The node to probe.
        guarded: Processes whose memory the agent must not be able to open.

    Returns:
        What passed and what failed. Nothing is raised for a cell that is gone or lies: such a seal is not proved.
    """
    return await _measure(cell, node, guarded, full=False)


async def probe_cell(cell: Cell, *, node: str = "default", guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Runs every probe that looks at a cell on one node of a fresh one; what needs cells of its own is no part of it.

    Args:
        cell: A cell in which nothing has been done yet.
        node: The node to probe.
        guarded: Processes whose memory the agent must not be able to open.

    Returns:
        As for `quick_seal`.
    """
    return await _measure(cell, node, guarded, full=True)


async def quick_seal_of_all(cell: Cell, *, guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Measures the seal of every node of a cell.

    Args:
        cell: The cell.
        guarded: Processes whose memory the agent must not be able to open, on whichever node.

    Returns:
        The report of the first node whose seal is not proved; of the first node where all are.
    """
    reports = [
        await quick_seal(cell, node=node, guarded=[process for process in guarded if _is_of(process, node, cell)])
        for node in cell.nodes
    ]
    return next((report for report in reports if not report.verified), reports[0])


def _is_of(process: ProcessRef, node: str, cell: Cell) -> bool:
    """Whether a pid may be looked for in a node: where the machine cannot see in, each node counts its own."""
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
