"""The full seal, measured when a run starts: probes of one cell, and drills, which make cells of their own.

It is in this package because it needs every lower layer: cells, tether, alarm of the agents' loops, prompts.
"""

import time
from typing import Final

import anyio

from redline._errors import SealError
from redline._tasks import task_group
from redline.agents.alarm_drill import alarm_drill
from redline.cell import Cell, CellConfig, open_cell
from redline.cell.alarm import run_listener
from redline.cell.errors import CellError
from redline.cell.open import choose_runtime, one_warden
from redline.cell.warden import Warden
from redline.scenarios.statements import fault_of_commands, faults_of_texts, statements, texts
from redline.seal import Drill, Probe, SealReport, cells_for_the_seal, probe_cell
from redline.seal.apart import cells_apart
from redline.seal.closed import closed_by_default
from redline.seal.drills import bounds_drill, daemons_gone, kill_drill, lease_drill
from redline.seal.probes import PROBES
from redline.seal.profiles import broken_profiles_fail
from redline.seal.report import report_of
from redline.tether.seal_drill import tether_drill

MAX_CONCURRENT: Final = 4
"""Maximum number of concurrent drills, most of which spend their time waiting."""

MEASUREMENTS: Final = 3
"""How often the seal is measured at most if something outside ends each measurement."""

Found = dict[str, str | None]
"""Reason for each probe's failure by the probe's name; None for a probe that held."""


async def _tether(config: CellConfig) -> str | None:
    return await tether_drill(config=config)


async def _alarm(config: CellConfig) -> str | None:
    run_listener.set(None)  # the drill's alarm must not end a run in progress
    return await alarm_drill(config=config)


async def _profiles(config: CellConfig) -> str | None:
    return await broken_profiles_fail(config)


DRILLS: Final = (
    Drill(26, "cells_apart", "two cells share nothing", cells_apart),
    Drill(28, "tether_only_protocol", "the tether carries only its protocol, counted and bounded", _tether),
    Drill(30, "daemons_gone", "detached children are gone after the teardown", daemons_gone),
    Drill(31, "kill_drill", "no process survives a kill during a fork storm", kill_drill),
    Drill(32, "lease_drill", "a cell whose harness is stopped or killed ends with its lease", lease_drill),
    Drill(35, "alarm_arrives", "every event that raises the alarm stops a cell in time", _alarm),
    Drill(37, "broken_profiles_fail", "a bare cell and broken ones are rejected", _profiles),
)
"""Probes that make cells of their own, with their numbers in the containment list."""

BOUNDS: Final = Drill(29, "limits_bite", "memory and wall time are bounded", bounds_drill)
"""The part of a probe that needs a cell of its own."""

START_FIRST: Final = ("lease_drill", "alarm_arrives", "limits_bite")
"""Drills that mostly wait, the longest first."""

CLOSED: Final = Probe(
    25, "closed_by_default", "an empty, missing or malformed network setting means closed", lambda _: None
)
"""Judged from the cell's configuration, without inspecting a cell."""

PROMPTS: Final = Probe(38, "prompts_agree", "the prompts match what the probes found", lambda _: None)
"""Judged last, from the results of the other probes."""


async def full_seal(config: CellConfig | None = None) -> SealReport:
    """Measure the full seal of cells with a configuration.

    Args:
        config: Configuration of the cells.

    Returns:
        The report on every probe. A probe that raises an error counts as failed. If something outside killed the
        warden, and no probe that ran failed, the seal is measured again.

    Raises:
        UsageError: This host or user cannot make cells.
        SealError: No cell could be made, or the cell was lost during the measurement.
    """
    config = config or CellConfig()
    config = config.model_copy(update={"runtime": choose_runtime(config.runtime).name})
    lost = ""
    for _ in range(MEASUREMENTS):
        try:
            return await _measured(config)
        except _LostError as error:
            lost = str(error)
    raise SealError(f"seal not proved: {lost} during each of {MEASUREMENTS} measurements; run the same command again")


class _LostError(Exception):
    """Raised if something outside ended the warden, so that probes could not run; the message says what happened."""


async def _measured(config: CellConfig) -> SealReport:
    """Measure the seal once.

    Raises:
        _LostError: Something outside ended the warden, and no probe that ran failed.
    """
    begun = time.perf_counter()
    found: Found = {}
    room = anyio.Semaphore(MAX_CONCURRENT)

    async def drill(each: Drill) -> None:
        async with room:
            reason = await _reason(each, config)
        found[each.name] = found.get(each.name) or reason

    with cells_for_the_seal(config.runtime):
        async with one_warden(config) as warden:
            try:
                async with task_group() as tasks:
                    # Start the longest drills first.
                    for each in sorted((*DRILLS, BOUNDS), key=lambda each: (*START_FIRST, each.name).index(each.name)):
                        tasks.start_soon(drill, each)
                    async with open_cell(config) as cell:
                        found[CLOSED.name] = closed_by_default(cell)
                        for name, reason in (await _probes(cell)).items():
                            found[name] = reason or found.get(name)
                        unsupported = await _commands(cell)
            except CellError as error:
                if (lost := await _ended(warden)) is not None:
                    raise lost from error
                raise
            lost = await _ended(warden) if any(found.values()) else None
    held = {name for name, reason in found.items() if reason is None}
    found[PROMPTS.name] = unsupported or next(faults_of_texts(statements(), texts(), held), None)
    every: tuple[Probe | Drill, ...] = (*PROBES, CLOSED, *DRILLS, PROMPTS)
    pairs = [(each, found[each.name]) for each in every]
    report = report_of(cell, pairs, full=True, seconds=time.perf_counter() - begun)
    if lost is not None and not report.found_something:
        raise lost
    return report


async def _ended(warden: Warden) -> _LostError | None:
    """Return the error if something outside ended the warden."""
    end = await warden.ended()
    return _LostError(end.what) if end is not None and end.from_outside else None


async def _reason(drill: Drill, config: CellConfig) -> str | None:
    try:
        return await drill.run(config)
    except Exception as error:  # a drill that cannot finish proves nothing
        return f"did not run ({type(error).__name__}: {error})"


async def _probes(cell: Cell) -> Found:
    """Return the results of the probes on all nodes of a cell. The cell fails a probe if one node does."""
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
