"""The breakages of the drills that lie above the cell, for the seal's self-test."""

from redline.agents.alarm_drill import alarm_drill
from redline.cell.config import CellConfig
from redline.cell.seal.broken import Bench, Breakage, Broken, Spec


def unwatched_cgroup(spec: Spec, bench: Bench) -> None:
    """The cell sits in a control group that nobody watches."""
    bench.stray_cgroup(spec)


async def unheard_alarm(config: CellConfig) -> str | None:
    """An alarm whose watch looks into another control group than the cell's."""
    async with Broken(unwatched_cgroup).open(config) as cell:
        return await alarm_drill(cell)


ABOVE_THE_CELL = (
    Breakage(
        "alarm_arrives",
        "a control group that nobody watches",
        drill=unheard_alarm,
        needs=frozenset({"cgroups", "namespaces"}),
    ),
)
"""Drills of higher layers under circumstances that must fail them."""
