"""A cheap look at a running cell from outside: whether what seals it is still as it was when it started.

It reads the machine's /proc and nothing else, so it costs the cell nothing and cannot be held up from inside. Where
another kernel runs the cell, the processes seen are that kernel's own.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from redline.cell.cell import Cell, ProcessRef
from redline.cell.programs.cgroups import cgroup_pids
from redline.cell.programs.prelude import is_running, stat_fields

NAMESPACES: Final = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
SHARED_BY_ALL: Final = ("net", "user")
"""Namespaces that every process of every node is in."""

BreachKind = Literal["network", "moved", "stranger"]


@dataclass(frozen=True)
class Breach:
    """What is not as it was."""

    kind: BreachKind
    """`network`: an interface or a route; `moved`: a first process changed its place; `stranger`: a process where it
    does not belong."""
    detail: str
    """More on it."""


class Watch:
    """Compares a cell with what it was when the watch began."""

    def __init__(self, cell: Cell) -> None:
        """Looks at a cell for the first time.

        Raises:
            OSError: The machine does not let this user look.
        """
        outside = {name: node.outside for name, node in cell.nodes.items()}
        self._inits = {name: init for name, init in outside.items() if init is not None and _runs(init)}
        self._first = {name: _place(init.pid) for name, init in self._inits.items()}
        self._cgroup = None if cell.rootless else cell.cgroup
        # A kernel of the cell's own keeps its processes to itself; what the machine sees is that kernel.
        self._sees_processes = cell.observer == "outside"

    @property
    def sees(self) -> bool:
        """Whether there is anything to look at: the cell may run on another machine."""
        return bool(self._inits)

    def check(self) -> Breach | None:
        """What is not as it was; None if all is, or if the cell is no more."""
        try:
            return next(self._breaches(), None)
        except (FileNotFoundError, ProcessLookupError):
            return None  # a first process ended during the look, which breaks nothing but the trial

    def _breaches(self) -> Iterator[Breach]:
        running = {name: init.pid for name, init in self._inits.items() if _runs(init)}
        for name, pid in running.items():
            yield from _network(pid)
            yield from self._moved(name, pid)
        if self._sees_processes and running:
            yield from self._strangers(running)

    def _moved(self, name: str, pid: int) -> Iterator[Breach]:
        now, before = _place(pid), self._first[name]
        for kind, place in now.items():
            if place != before[kind]:
                yield Breach("moved", f"the first process of {name} changed its {kind}: {before[kind]}, then {place}")

    def _strangers(self, running: Mapping[str, int]) -> Iterator[Breach]:
        """Processes of the cell that left its namespaces or cgroup, and others in the cgroup."""
        pid_spaces = {place["pid"] for place in self._first.values()}
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
                elif self._cgroup and not self._in_cgroup(pid):
                    yield Breach("stranger", f"process {pid} of the cell is in no cgroup of the cell")

    def _in_cgroup(self, pid: int) -> bool:
        with open(f"/proc/{pid}/cgroup") as file:
            return any(f"/{self._cgroup}/" in f"{line.strip()}/" for line in file)


def _runs(init: ProcessRef) -> bool:
    return is_running(init.pid, init.start)


def _place(pid: int) -> dict[str, str]:
    """The namespaces of a process and its parent."""
    fields = stat_fields(pid)
    if not fields:
        raise ProcessLookupError(f"process {pid} has ended")
    parent = fields[1].decode()
    return {**{kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}, "parent": parent}


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
    """Every process below one, as far as the kernel lists children."""
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        with suppress(OSError):
            for task in os.listdir(f"/proc/{above}/task"):
                with open(f"/proc/{above}/task/{task}/children") as file:
                    children = [int(word) for word in file.read().split()]
                waiting += children
                yield from children
