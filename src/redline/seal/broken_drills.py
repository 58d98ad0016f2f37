"""The defects of drills: circumstances under which a probe that makes its own cells must fail."""

from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.open import open_cell
from redline.seal.apart import cells_apart
from redline.seal.broken import DefectiveCell, InjectedDefect, Spec, bind, break_inside, workbench
from redline.seal.broken_cells import WRITABLE, writable_place
from redline.seal.broken_profiles import SAMPLE, broken_profiles_fail
from redline.seal.closed import closed_by_default
from redline.seal.drills import bounds_drill, daemons_gone, kill_drill, lease_drill

LONG_LEASE = 60.0


async def polite(cell: Cell) -> None:
    """An end that asks every process instead of killing it."""
    await break_inside(cell, action="ask_to_end")


async def forgotten_daemons(config: CellConfig) -> str | None:
    """A teardown that asks."""
    return await daemons_gone(config, teardown=polite)


async def polite_kill(config: CellConfig) -> str | None:
    """A kill that asks."""
    return await kill_drill(config, order=polite)


async def long_lease(config: CellConfig) -> str | None:
    """A warden that takes a silent harness for a living one."""
    return await lease_drill(config, lease_seconds=LONG_LEASE)


async def unbroken_profiles(config: CellConfig) -> str | None:
    """Profiles that are called broken, and are not."""
    return await broken_profiles_fail(config, [InjectedDefect(name, "nothing", DefectiveCell()) for name in SAMPLE])


async def sealed_bare_profile(config: CellConfig) -> str | None:
    """A profile that is called bare, and is not."""
    return await broken_profiles_fail(config, bare=DefectiveCell())


async def shared_folder(config: CellConfig) -> str | None:
    """Two cells into which the same folder is bound."""
    with workbench() as bench:
        common = bench.folder / "common"
        common.mkdir()
        common.chmod(0o777)

        def patched(spec: Spec, _node: str) -> Spec:
            bind(spec, common, writable_place(spec, bench), *WRITABLE)
            return spec

        return await cells_apart(config, patched)


def no_guard(_specification: Spec) -> None:
    """Lets everything through."""


async def unguarded_network(config: CellConfig) -> str | None:
    """A check of the network that lets everything through; nothing is made."""
    async with open_cell(config) as cell:
        return closed_by_default(cell, no_guard)


async def long_life(config: CellConfig) -> str | None:
    """A cell that may live for longer than it is held to."""
    return await bounds_drill(config, longer=int(LONG_LEASE))


DRILLS = (
    InjectedDefect("limits_bite", "a cell that may live for a minute", drill=long_life),
    InjectedDefect("closed_by_default", "a check of the network that lets everything through", drill=unguarded_network),
    InjectedDefect(
        "cells_apart",
        "a folder that two cells share",
        drill=shared_folder,
        needs=frozenset({"writable_folders"}),
    ),
    InjectedDefect("daemons_gone", "a teardown that asks instead of killing", drill=forgotten_daemons),
    InjectedDefect("kill_drill", "a kill that asks instead of killing", drill=polite_kill),
    InjectedDefect("lease_drill", "a warden that waits a minute for a silent harness", drill=long_lease),
    InjectedDefect("broken_profiles_fail", "profiles that are not broken", drill=unbroken_profiles),
    InjectedDefect("broken_profiles_fail", "a bare profile that is sealed", drill=sealed_bare_profile),
)
"""Drills under circumstances that must fail them."""
