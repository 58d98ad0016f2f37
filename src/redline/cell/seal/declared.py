"""The mounts that a cell of each runtime is declared to have."""

import os
from typing import Any

from redline.cell.cell import Cell
from redline.cell.spec import (
    INIT_PROGRAM,
    MASKED_PROC,
    READONLY_PROC,
    TETHER_FOLDER,
    HostSpec,
    IdMaps,
    host_spec,
)

DEVICES = tuple("/dev/" + name for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"))
BY_GVISOR = ("/sys",)
BY_DOCKER = ("/sys", "/sys/fs/cgroup", "/dev/mqueue", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts")


def declared_mounts(cell: Cell, host: str) -> dict[str, Any]:
    """What may be mounted in a host.

    Returns:
        `places`, where anything may be mounted; `devices` and `scratch`, of these, which need not be read-only; and
        `bound`, device and inode of what the machine's own files and folders are, where these can be compared.
    """
    ground = cell.ground
    spec = host_spec(
        cell.config,
        HostSpec(
            hostname=host,
            root=ground.root,
            init=ground.init,
            tether=cell.hosts[host].tether_dir,
            ids=IdMaps((), ()),
            cgroup="/",
            attendant=ground.attendant if cell.observer == "inside" else None,
        ),
        ground.tools,
    )
    mounts = {mount["destination"]: mount for mount in spec["mounts"]}
    masked = [*MASKED_PROC, *ground.tools.masked, *READONLY_PROC]
    beside = BY_GVISOR if cell.runtime == "runsc" else BY_DOCKER if cell.runtime == "docker" else ()
    return {
        "places": ["/", *mounts, *masked, *DEVICES, *beside],
        "devices": [*DEVICES, *masked],
        "scratch": [TETHER_FOLDER] if cell.observer == "inside" else [],
        "bound": _bound(mounts) if cell.observer == "outside" else {},
    }


def _bound(mounts: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Device and inode of each source; the first process's program is left out, which is judged by what it does."""
    found = {}
    for destination, mount in mounts.items():
        if mount["type"] == "bind" and destination != INIT_PROGRAM:
            info = os.stat(mount["source"])
            found[destination] = [info.st_dev, info.st_ino]
    return found
