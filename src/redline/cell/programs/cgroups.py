"""The cgroups of a cell: find, freeze, list and remove them. Standard library only."""

from __future__ import annotations

import contextlib
import os
import time

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUP_ROOT = "/sys/fs/cgroup"
EMPTY_SECONDS = 1.0


def cgroup_folders(name: str) -> list[str]:
    """Return the folders of a cgroup in every hierarchy of the host, the unified one first."""
    try:
        hierarchies = sorted(os.listdir(CGROUP_ROOT), key=lambda hierarchy: (hierarchy != "unified", hierarchy))
    except OSError:
        hierarchies = []
    paths = [f"{CGROUP_ROOT}/{name}", *(f"{CGROUP_ROOT}/{hierarchy}/{name}" for hierarchy in hierarchies)]
    return [path for path in paths if os.path.isdir(path)]


def write_file(path: str, text: str) -> bool:
    """Write a control file. Return False if it does not exist or refuses the text."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def unified_folder(name: str) -> str | None:
    """Return the folder of a cgroup that has `cgroup.kill` and `cgroup.freeze`; None if there is none."""
    for folder in cgroup_folders(name):
        if os.path.exists(folder + "/cgroup.kill") and os.path.exists(folder + "/cgroup.freeze"):
            return folder
    return None


def request_freeze(name: str, frozen: bool) -> str | None:
    """Have the kernel freeze or thaw a whole cell. Return its folder; None if there is no freezer."""
    folder = unified_folder(name)
    if folder is None or not write_file(folder + "/cgroup.freeze", "1" if frozen else "0"):
        return None
    return folder


def is_frozen(folder: str) -> bool:
    """Return whether every process below a cgroup's folder is frozen.

    Raises:
        OSError: The cgroup is gone.
    """
    with open(folder + "/cgroup.events") as file:
        return "frozen 1" in file.read()


def cgroup_pids(name: str, passed_over: tuple[type[OSError], ...] = (OSError,)) -> set[int]:
    """Return the pids in a cgroup and below it.

    Args:
        name: The cgroup.
        passed_over: Errors of files that cannot be read, which are ignored.
    """
    pids: set[int] = set()
    for folder in cgroup_folders(name):
        for path, _, _ in os.walk(folder):
            with contextlib.suppress(*passed_over), open(path + "/cgroup.procs") as file:
                pids.update(int(line) for line in file)
        if pids:
            break
    return pids


def cell_processes(cgroup: str, inits: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield (node, pid) of every process of a cell, as decided by its pid namespace, never by a name or an address.

    If the cell has a cgroup, which no process of it can leave, only the processes in the cgroup are checked: other
    cells may have many more. A list that lacks a first process, or that cannot be read, is not used.
    """
    nodes = {}
    for node, init in inits.items():
        with contextlib.suppress(OSError):
            nodes[os.readlink(f"/proc/{init}/ns/pid")] = node
    try:
        pids = cgroup_pids(cgroup, passed_over=())
    except OSError:
        pids = set()
    if not pids.issuperset(inits.values()):
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    for pid in sorted(pids):
        try:
            node_of = nodes.get(os.readlink(f"/proc/{pid}/ns/pid"))
        except OSError:
            continue  # gone, or not of the cell, over whose processes the caller has every capability
        if node_of is not None:
            yield node_of, pid


def remove_cgroups(name: str) -> bool:
    """Remove the empty cgroups of a cell. Return whether none is left."""
    deadline = time.monotonic() + EMPTY_SECONDS
    while folders := cgroup_folders(name):
        for folder in folders:
            for path, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):  # a process that just died may still be counted for a moment
                    os.rmdir(path)
        if time.monotonic() > deadline:
            return not cgroup_folders(name)
    return True
