"""A cheap check of a running cell from outside: whether its namespaces and cgroups are as they were at its start.

It only reads the host's /proc, so it costs the cell nothing and the agent cannot delay it. If the cell has a kernel of
its own, the processes that it reads are those of that kernel.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from redline.cell.cell import Cell
from redline.cell.node import ProcessRef
from redline.cell.programs.cgroups import cgroup_pids
from redline.cell.programs.prelude import is_ending, is_running, stat_fields

NAMESPACES: Final = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
SHARED_BY_ALL: Final = ("net", "user")
"""Kinds of namespace that all processes of all nodes share."""
PARENT: Final = "parent"
BreachKind = Literal["network", "moved", "stranger"]


@dataclass(frozen=True)
class Breach:
    """A difference between a cell and its state at the start."""

    kind: BreachKind
    """`network`: an interface or a route; `moved`: a first process changed a namespace or its parent; `stranger`: a
    process in a namespace or cgroup in which it does not belong."""
    detail: str
    """Description."""


class Watch:
    """Compares a cell with its state when the watch began."""

    def __init__(self, cell: Cell) -> None:
        """Record the state of a cell.

        Raises:
            OSError: This user has no permission to read it.
        """
        self._cell = cell
        outside = {name: node.outside for name, node in cell.nodes.items()}
        self._inits = {name: init for name, init in outside.items() if init is not None and _runs(init)}
        self._first = {name: _identity_of(init.pid) for name, init in self._inits.items()}
        self._cgroup = None if cell.rootless else cell.cgroup
        # The host sees a kernel of the cell's own as one process, and none of the processes inside.
        self._sees_processes = cell.observer == "outside"

    @property
    def sees(self) -> bool:
        """Whether there is anything to check: the cell may run on another host."""
        return bool(self._inits)

    def check(self) -> Breach | None:
        """Return the first difference; None if there is none, or if the cell has ended."""
        try:
            return next(self._breaches(), None)
        except (FileNotFoundError, ProcessLookupError):
            return None  # a first process ended during the check, which is no breach of the seal

    def _breaches(self) -> Iterator[Breach]:
        running = {name: init.pid for name, init in self._inits.items() if _runs(init)}
        for name, pid in running.items():
            yield from _network(pid)
            yield from self._moved(name, pid)
        if self._sees_processes and running:
            yield from self._strangers(running)

    def _moved(self, name: str, pid: int) -> Iterator[Breach]:
        now, before = _identity_of(pid), self._first[name]
        for kind, value in now.items():
            # The kernel gives a process another parent only if its parent ends. Nothing in the cell can end the warden,
            # and the end of the warden ends the cell.
            if value != before[kind] and not (kind == PARENT and self._cell.warden_is_gone):
                yield Breach("moved", f"the first process of {name} changed its {kind}: {before[kind]}, then {value}")

    def _strangers(self, running: Mapping[str, int]) -> Iterator[Breach]:
        """Yield processes of the cell that left its namespaces or cgroup, and foreign processes in the cgroup."""
        pid_spaces = {identity["pid"] for identity in self._first.values()}
        shared = next(iter(self._first.values()))
        below = {pid for init in running.values() for pid in _descendants(init)}
        inside = cgroup_pids(self._cgroup) if self._cgroup else set()
        for pid in below | inside:
            with suppress(OSError):  # it ended
                spaces = {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", *SHARED_BY_ALL)}
                foreign = [kind for kind in SHARED_BY_ALL if spaces[kind] != shared[kind]]
                if spaces["pid"] not in pid_spaces:
                    yield Breach("stranger", f"process {pid} of no node is in the cell's cgroup")
                elif foreign:
                    yield Breach("stranger", f"process {pid} of the cell is in a foreign {foreign[0]} namespace")
                elif self._cgroup and not self._in_cgroup(pid) and not is_ending(pid):
                    yield Breach("stranger", f"process {pid} of the cell is in no cgroup of the cell")

    def _in_cgroup(self, pid: int) -> bool:
        with open(f"/proc/{pid}/cgroup") as file:
            return any(f"/{self._cgroup}/" in f"{line.strip()}/" for line in file)


def _runs(init: ProcessRef) -> bool:
    return is_running(init.pid, init.start)


def _identity_of(pid: int) -> dict[str, str]:
    """Return the namespaces and the parent of a process."""
    fields = stat_fields(pid)
    if not fields:
        raise ProcessLookupError(f"process {pid} has ended")
    parent = fields[1].decode()
    return {**{kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}, PARENT: parent}


def _network(pid: int) -> Iterator[Breach]:
    with open(f"/proc/{pid}/net/dev") as file:
        others = sorted({line.split(":")[0].strip() for line in file if ":" in line} - {"lo"})
    if others:
        yield Breach("network", f"interface {', '.join(others)}")
    with open(f"/proc/{pid}/net/route") as file:
        if routes := file.read().splitlines()[1:]:
            yield Breach("network", f"{len(routes)} routes, the first by {routes[0].split()[0]}")
    with suppress(FileNotFoundError), open(f"/proc/{pid}/net/ipv6_route") as file:
        if other := {line.split()[-1] for line in file} - {"lo"}:
            yield Breach("network", f"routes by {', '.join(sorted(other))}")


def _descendants(pid: int) -> Iterator[int]:
    """Yield every descendant of a process that the kernel lists."""
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        with suppress(OSError):
            for task in os.listdir(f"/proc/{above}/task"):
                with open(f"/proc/{above}/task/{task}/children") as file:
                    children = [int(word) for word in file.read().split()]
                waiting += children
                yield from children
