"""Injected defects of drills: conditions under which a probe that makes its own cells must fail."""

from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.open import open_cell
from redline.seal.apart import cells_apart
from redline.seal.closed import closed_by_default
from redline.seal.defects.defect import DefectiveCell, InjectedDefect, inject
from redline.seal.defects.oci import WRITABLE, bind, writable_mount_point
from redline.seal.defects.workbench import Spec, open_workbench
from redline.seal.drills import bounds_drill, daemons_gone, kill_drill, lease_drill
from redline.seal.profiles import SAMPLE, broken_profiles_fail

EXTENDED_SECONDS = 60.0


async def only_terminate(cell: Cell) -> None:
    """Send SIGTERM to every process instead of killing it."""
    await inject(cell, action="send_sigterm")


async def teardown_by_sigterm(config: CellConfig) -> str | None:
    """Run the drill of daemons with a teardown that only sends SIGTERM."""
    return await daemons_gone(config, teardown=only_terminate)


async def kill_by_sigterm(config: CellConfig) -> str | None:
    """Run the kill drill with a kill that only sends SIGTERM."""
    return await kill_drill(config, order=only_terminate)


async def extended_lease(config: CellConfig) -> str | None:
    """Run the lease drill with wardens that accept a minute of silence."""
    return await lease_drill(config, lease_seconds=EXTENDED_SECONDS)


async def correct_profiles(config: CellConfig) -> str | None:
    """Run probe 37 on correct cells in place of the broken ones."""
    return await broken_profiles_fail(config, [InjectedDefect(name, "nothing", DefectiveCell()) for name in SAMPLE])


async def sealed_bare_profile(config: CellConfig) -> str | None:
    """Run probe 37 on a correct cell in place of the bare one."""
    return await broken_profiles_fail(config, bare=DefectiveCell())


async def shared_folder(config: CellConfig) -> str | None:
    """Run probe 26 on two cells that have a folder in common."""
    with open_workbench() as bench:
        common = bench.folder / "common"
        common.mkdir()
        common.chmod(0o777)

        def patched(spec: Spec, _node: str) -> Spec:
            bind(spec, common, writable_mount_point(spec, bench), *WRITABLE)
            return spec

        return await cells_apart(config, patched)


def accept_everything(_spec: Spec) -> None:
    """Replace the check of the network by one that rejects nothing."""


async def unchecked_network(config: CellConfig) -> str | None:
    """Run probe 25 with a check that accepts every network; no cell with such a network is made."""
    async with open_cell(config) as cell:
        return closed_by_default(cell, accept_everything)


async def extended_life(config: CellConfig) -> str | None:
    """Run the drill of bounds with a cell whose real time limit is a minute longer."""
    return await bounds_drill(config, longer=int(EXTENDED_SECONDS))


DRILLS = (
    InjectedDefect("limits_bite", "a cell with a time limit that is a minute too long", drill=extended_life),
    InjectedDefect("closed_by_default", "a network check that accepts everything", drill=unchecked_network),
    InjectedDefect(
        "cells_apart",
        "a folder that two cells share",
        drill=shared_folder,
        needs=frozenset({"writable_folders"}),
    ),
    InjectedDefect("daemons_gone", "a teardown that only sends SIGTERM", drill=teardown_by_sigterm),
    InjectedDefect("kill_drill", "a kill that only sends SIGTERM", drill=kill_by_sigterm),
    InjectedDefect("lease_drill", "a warden that accepts a minute of silence", drill=extended_lease),
    InjectedDefect("broken_profiles_fail", "profiles that are not broken", drill=correct_profiles),
    InjectedDefect("broken_profiles_fail", "a bare profile that is sealed", drill=sealed_bare_profile),
)
"""Drills under conditions that must make them fail."""
