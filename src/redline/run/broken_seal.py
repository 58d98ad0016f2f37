"""The defects of the drills that lie above the cell, for the seal's self-test."""

from redline.agents.alarm_drill import alarm_drill
from redline.cell import open_cell
from redline.cell.config import CellConfig
from redline.scenarios.statements import prompts_agree, texts
from redline.seal import PROBE_NAMES
from redline.seal.defects import DefectiveCell, InjectedDefect, Spec, Workbench
from redline.tether.seal_drill import tether_drill

PATIENCE = 60.0
FALSE_CLAIM = "The machine is connected to the internet."


def unwatched_cgroup(spec: Spec, bench: Workbench) -> None:
    """The cell sits in a control group that nobody watches."""
    bench.stray_cgroup(spec)


async def unheard_alarm(config: CellConfig) -> str | None:
    """An alarm whose watch looks into another control group than the cell's."""
    async with DefectiveCell(unwatched_cgroup).open(config) as cell:
        return await alarm_drill(cell)


async def patient_tether(config: CellConfig) -> str | None:
    """A tether that waits for slow peers for as long as they like."""
    return await tether_drill(config=config, message_seconds=PATIENCE)


async def talkative_prompt(config: CellConfig) -> str | None:
    """A prompt that speaks of a network which cells do not have; nothing is made but a cell like any other."""
    async with open_cell(config) as cell:
        said = {**texts(), "prompts/common/self.md": texts()["prompts/common/self.md"] + " " + FALSE_CLAIM}
        return await prompts_agree(cell, PROBE_NAMES, said)


ABOVE_THE_CELL = (
    InjectedDefect("tether_only_protocol", "a tether that waits for slow peers", drill=patient_tether),
    InjectedDefect("prompts_agree", "a prompt that speaks of the internet", drill=talkative_prompt),
    InjectedDefect(
        "alarm_arrives",
        "a control group that nobody watches",
        drill=unheard_alarm,
        needs=frozenset({"cgroups", "namespaces"}),
    ),
)
"""Drills of higher layers under circumstances that must fail them."""
