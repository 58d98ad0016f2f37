"""Injected defects for the drills of the layers above the cell, used by the seal's self-test."""

from redline.agents.alarm_drill import alarm_drill
from redline.cell import open_cell
from redline.cell.config import CellConfig
from redline.scenarios.statements import prompts_agree, texts
from redline.seal import PROBE_NAMES
from redline.seal.defects import DefectiveCell, InjectedDefect, Spec, Workbench
from redline.tether.seal_drill import tether_drill

TIMEOUT_SECONDS = 60.0
FALSE_STATEMENT = "The machine is connected to the internet."


def unwatched_cgroup(spec: Spec, bench: Workbench) -> None:
    """Place the cell in a control group that is not watched."""
    bench.stray_cgroup(spec)


async def alarm_in_wrong_cgroup(config: CellConfig) -> str | None:
    """Run the alarm drill with a watch on a control group other than the cell's."""
    async with DefectiveCell(unwatched_cgroup).open(config) as cell:
        return await alarm_drill(cell)


async def tether_without_timeout(config: CellConfig) -> str | None:
    """Run the tether drill with a tether that waits for slow peers."""
    return await tether_drill(config=config, message_seconds=TIMEOUT_SECONDS)


async def prompt_with_false_statement(config: CellConfig) -> str | None:
    """Check prompts of which one mentions a network that cells do not have, against an ordinary cell."""
    async with open_cell(config) as cell:
        prompts = {**texts(), "prompts/common/self.md": texts()["prompts/common/self.md"] + " " + FALSE_STATEMENT}
        return await prompts_agree(cell, PROBE_NAMES, prompts)


ABOVE_THE_CELL = (
    InjectedDefect("tether_only_protocol", "a tether that waits for slow peers", drill=tether_without_timeout),
    InjectedDefect("prompts_agree", "a prompt that mentions the internet", drill=prompt_with_false_statement),
    InjectedDefect(
        "alarm_arrives",
        "a control group that is not watched",
        drill=alarm_in_wrong_cgroup,
        needs=frozenset({"cgroups", "namespaces"}),
    ),
)
"""Defects that the drills of higher layers must detect."""
