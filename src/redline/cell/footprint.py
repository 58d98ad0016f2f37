"""The processes and cgroups of a cell on the host, found by cgroup and user ids, never by pids that may be reused."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redline.cell.programs.prelude import is_running, start_time, stat_fields

DEAD = (b"Z", b"X")
POD = "pod-"
"""Prefix of the cgroup of every cell."""

CONTAINER = re.compile(r"(docker-)?[0-9a-f]{64}(\.scope)?")
"""Name of a container's cgroup, as a Docker engine chooses it."""


def is_of_a_cell(name: str) -> bool:
    """Return whether a cgroup's name is one that only cells have."""
    return name.startswith(POD) or CONTAINER.fullmatch(name) is not None


@dataclass(frozen=True)
class Footprint:
    """What identifies a cell's processes on the host. Taken while the cell runs, checked once it must have ended."""

    inits: tuple[tuple[int, int | None], ...]
    """Pid and start time of the first processes."""

    cgroups: tuple[Path, ...]
    """The cell's cgroup folders, one for each hierarchy; none if this user can make none."""

    ids: tuple[range, ...]
    """User ids on the host that only this cell uses."""

    @classmethod
    def of(cls, inits: list[int], own_uid: int) -> "Footprint":
        """Read the footprint from the kernel's data on a cell's first processes.

        Args:
            inits: Their pids on the host.
            own_uid: The harness's user, which the cell of a user without root shares.
        """
        cgroups = {folder for pid in inits for folder in _cgroups(pid)}
        ids = {ids for pid in inits for ids in outside_ids(pid) if own_uid not in ids}
        return cls(
            tuple((pid, start_time(pid)) for pid in inits),
            tuple(sorted(cgroups)),
            tuple(sorted(ids, key=lambda ids: ids.start)),
        )

    def may_be_alive(self) -> bool:
        """Return quickly whether a first process runs or a cgroup is not empty."""
        return any(is_running(pid, start) for pid, start in self.inits) or any(self._members())

    def count(self) -> int:
        """Return quickly the number of processes in the cell's cgroups; without a cgroup, of all its live processes."""
        return len(set(self._members())) if self.cgroups else len(self.live_pids())

    def live_pids(self) -> set[int]:
        """Return the pids of all live processes; a zombie is live only if one of its threads is."""
        found = {pid for pid, start in self.inits if is_running(pid, start)}
        found.update(pid for pid in self._members() if _has_living_thread(pid))
        found.update(pid for pid in _processes() if self._is_of_its_user(pid) and _has_living_thread(pid))
        return found

    def left_over(self) -> list[str]:
        """Describe every process and cgroup that still exists; empty if none does."""
        processes = [f"process {pid}" for pid in sorted(self.live_pids())]
        return processes + [f"cgroup {folder}" for folder in self.cgroups if folder.exists()]

    def _members(self) -> Iterator[int]:
        for cgroup in self.cgroups:
            for folder, _, _ in os.walk(cgroup):  # it may be removed meanwhile
                with contextlib.suppress(OSError):
                    yield from (int(line) for line in Path(folder, "cgroup.procs").read_text().split())

    def _is_of_its_user(self, pid: int) -> bool:
        uid = _uid(pid)
        return uid is not None and any(uid in ids for ids in self.ids)


@cache
def _hierarchies() -> dict[str, Path]:
    """Return the mount points by controller; the unified hierarchy's name is empty."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2":
            found.setdefault("", Path(mount.split()[4]))
        elif kind == "cgroup":
            for controller in options.split(","):
                found.setdefault(controller, Path(mount.split()[4]))
    return found


def memory_cgroup(pid: int) -> Path | None:
    """Return the folder of the cgroup that counts the memory of a cell's process; None if no cell has it."""
    with contextlib.suppress(OSError):
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().split("\n") if line]
        paths = {name: path for _, names, path in lines for name in names.split(",")}
        for controller in ("memory", ""):  # cgroup v1, then v2
            path, mounted = paths.get(controller), _hierarchies().get(controller)
            if path is not None and mounted is not None and any(map(is_of_a_cell, path.split("/"))):
                return mounted / path.strip("/")
    return None


def _cgroups(pid: int) -> Iterator[Path]:
    """Yield the cell's cgroup folders that a process is in; their paths differ by controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.split("/")
        depth = next((depth for depth, part in enumerate(parts, 1) if is_of_a_cell(part)), None)
        mounted = _hierarchies().get(controllers.split(",")[0])
        if depth is not None and mounted is not None:
            yield mounted.joinpath(*parts[1:depth])


def outside_ids(pid: int) -> Iterator[range]:
    """Yield the host's user ids to which the user namespace of a process maps."""
    for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines():
        _, outside, size = (int(word) for word in line.split())
        yield range(outside, outside + size)


def _processes() -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            yield int(path.name)


def _uid(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        # A process name may contain any bytes; the kernel escapes only the line feed.
        for line in Path(f"/proc/{pid}/status").read_bytes().split(b"\n"):
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


def _has_living_thread(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            fields = stat_fields(f"{pid}/task/{thread.name}")
            if fields and fields[0] not in DEAD:
                return True
    return False
