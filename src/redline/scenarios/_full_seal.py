"""The full set of probes, measured when a run starts: what looks at one cell, and the drills, which make their own.

It stands here because it asks every layer below: cells, the tether, the alarm of the agents' loops, the prompts.
"""

import time
from typing import Final

import anyio

from redline._tasks import task_group
from redline.agents.alarm_drill import alarm_drill
from redline.cell import Cell, CellConfig, open_cell
from redline.cell.alarm import run_listener
from redline.cell.errors import CellError
from redline.cell.open import choose_runtime, one_warden
from redline.scenarios.statements import fault_of_commands, faults_of_texts, statements, texts
from redline.seal import Drill, Probe, SealReport, cells_for_the_seal, probe_cell
from redline.seal.apart import cells_apart
from redline.seal.broken_profiles import broken_profiles_fail
from redline.seal.closed import closed_by_default
from redline.seal.drills import bounds_drill, daemons_gone, kill_drill, lease_drill
from redline.seal.probes import PROBES
from redline.seal.report import report_of
from redline.tether.seal_drill import tether_drill

AT_ONCE: Final = 4
"""Drills that run side by side; most of them wait more than they work."""

Found = dict[str, str | None]
"""What each probe found, by its name: the reason why it failed, None where it held."""


async def _tether(config: CellConfig) -> str | None:
    return await tether_drill(config=config)


async def _alarm(config: CellConfig) -> str | None:
    run_listener.set(None)  # a run that is under way is not to end for it
    return await alarm_drill(config=config)


async def _profiles(config: CellConfig) -> str | None:
    return await broken_profiles_fail(config)


DRILLS: Final = (
    Drill(26, "cells_apart", "two cells have nothing in common", cells_apart),
    Drill(28, "tether_only_protocol", "the tether carries its protocol alone, counted and bounded", _tether),
    Drill(30, "daemons_gone", "detached children are gone after the teardown", daemons_gone),
    Drill(31, "kill_drill", "a kill under a fork storm leaves nobody", kill_drill),
    Drill(32, "lease_drill", "a cell whose harness is stopped or killed ends with its lease", lease_drill),
    Drill(35, "alarm_arrives", "every event that raises the alarm stops a cell in time", _alarm),
    Drill(37, "broken_profiles_fail", "a bare cell and broken ones are rejected", _profiles),
)
"""Probes that make cells of their own, by the numbers of the containment list."""

BOUNDS: Final = Drill(29, "limits_bite", "memory and wall time have their bound", bounds_drill)
"""What of a probe that looks at a cell takes another cell to be seen."""

WAITING: Final = ("lease_drill", "alarm_arrives", "limits_bite")
"""Drills that wait more than they work, the longest first."""

CLOSED: Final = Probe(
    25, "closed_by_default", "an empty, missing or malformed network setting means closed", lambda _: None
)
"""Judged without a look at the cell: of what it is made from."""

PROMPTS: Final = Probe(38, "prompts_agree", "what the prompts say is what the probes found", lambda _: None)
"""Judged last, by what the others found."""


async def full_seal(config: CellConfig | None = None) -> SealReport:
    """Measures everything that is to hold of cells of a shape.

    Args:
        config: The shape.

    Returns:
        What held and what did not. A probe that errs has failed.

    Raises:
        UsageError: This machine or user can make no cells.
        SealError: No cell could be made to be measured, or it was lost.
    """
    config = config or CellConfig()
    config = config.model_copy(update={"runtime": choose_runtime(config.runtime).name})
    begun = time.perf_counter()
    found: Found = {}
    room = anyio.Semaphore(AT_ONCE)

    async def drill(each: Drill) -> None:
        async with room:
            reason = await _reason(each, config)
        found[each.name] = found.get(each.name) or reason

    with cells_for_the_seal(config.runtime):
        async with one_warden(config), task_group() as tasks:
            # What is waited for longest comes first.
            for each in sorted((*DRILLS, BOUNDS), key=lambda each: (*WAITING, each.name).index(each.name)):
                tasks.start_soon(drill, each)
            async with open_cell(config) as cell:
                found[CLOSED.name] = closed_by_default(cell)
                for name, reason in (await _probes(cell)).items():
                    found[name] = reason or found.get(name)
                unfounded = await _commands(cell)
    held = {name for name, reason in found.items() if reason is None}
    found[PROMPTS.name] = unfounded or next(faults_of_texts(statements(), texts(), held), None)
    every: tuple[Probe | Drill, ...] = (*PROBES, CLOSED, *DRILLS, PROMPTS)
    pairs = [(each, found[each.name]) for each in every]
    return report_of(cell, pairs, full=True, seconds=time.perf_counter() - begun)


async def _reason(drill: Drill, config: CellConfig) -> str | None:
    try:
        return await drill.run(config)
    except Exception as error:  # whatever went wrong: nothing was shown
        return f"did not run ({type(error).__name__}: {error})"


async def _probes(cell: Cell) -> Found:
    """What the probes found on the nodes of a cell; where one node fails a probe, the cell does."""
    found: Found = {probe.name: None for probe in PROBES}
    for node in cell.nodes:
        report = await probe_cell(cell, node=node)
        for finding in (*report.failed, *report.lacking, *report.warnings):
            found[finding.name] = found[finding.name] or finding.found or finding.reason
    return found


async def _commands(cell: Cell) -> str | None:
    try:
        return await fault_of_commands(cell, statements())
    except (CellError, OSError) as error:
        return f"did not run ({error})"
