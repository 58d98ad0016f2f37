"""What a cell is declared to have on each runtime: mounts, writable folders, processes."""

import os
from typing import Any

from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.oci.spec import NodeSpec, node_spec
from redline.cell.spec import (
    HOME,
    INIT_PROGRAM,
    MASKED_PROC,
    READONLY_PROC,
    TETHER_FOLDER,
)
from redline.cell.state import IdMaps

DEVICES = tuple("/dev/" + name for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"))


def declared_mounts(cell: Cell, node: str) -> dict[str, Any]:
    """Return what may be mounted in a node.

    Returns:
        `paths`, the permitted mount points; `devices` and `scratch`, those among them that need not be read-only; and
        `bound`, device and inode of each mounted file or folder of the host, if these can be compared.
    """
    harness = cell.harness
    spec = node_spec(
        cell.config,
        NodeSpec(
            hostname=node,
            root=harness.root,
            init=harness.init,
            tether=cell.nodes[node].tether_dir,
            ids=IdMaps((), ()),
            cgroup="/",
            attendant=harness.attendant if cell.observer == "inside" else None,
        ),
        harness.tools,
    )
    mounts = {mount["destination"]: mount for mount in spec["mounts"]}
    masked = [*MASKED_PROC, *harness.tools.masked, *READONLY_PROC]
    return {
        "paths": ["/", *mounts, *masked, *DEVICES, *cell.traits.extra_mounts],
        "devices": [*DEVICES, *masked],
        "scratch": [TETHER_FOLDER] if cell.observer == "inside" else [],
        "bound": _bound(mounts) if cell.observer == "outside" else {},
    }


def scratch_mib(config: CellConfig) -> dict[str, int]:
    """Return the size in MiB of each folder in which the agent may write."""
    return {
        "/tmp": config.tmp_mib,
        "/var/tmp": config.var_tmp_mib,
        "/dev/shm": config.shm_mib,
        HOME: config.home_mib,
    }


def declared_pids(cell: Cell) -> int:
    """Return the limit of a node's processes, including those of redline that the runtime counts within it."""
    return cell.config.pids + cell.traits.spare_pids


def _bound(mounts: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Return device and inode of each bound source except the first process's program, which may be patched."""
    found = {}
    for destination, mount in mounts.items():
        if mount["type"] == "bind" and destination != INIT_PROGRAM:
            info = os.stat(mount["source"])
            found[destination] = [info.st_dev, info.st_ino]
    return found
