"""What a cell has on the machine, told by control group and ids, never by pids that may be another's by now."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redline.cell.programs.prelude import is_running, start_time

DEAD = (b"Z", b"X")
POD = "pod-"
"""How the control group of every cell begins."""

CONTAINER = re.compile(r"(docker-)?[0-9a-f]{64}(\.scope)?")
"""How a Docker engine names the control group of a container."""


def is_of_a_cell(name: str) -> bool:
    """Whether a control group of that name is one that cells alone have."""
    return name.startswith(POD) or CONTAINER.fullmatch(name) is not None


@dataclass(frozen=True)
class Footprint:
    """By what the machine knows a cell's processes. Taken while the cell lives, looked at when it should not."""

    inits: tuple[tuple[int, int | None], ...]
    """Pid and start time of the first processes."""

    cgroups: tuple[Path, ...]
    """The cell's folder in every hierarchy that has one; none where this user can make none."""

    ids: tuple[range, ...]
    """User ids on the machine that only this cell uses."""

    @classmethod
    def of(cls, inits: list[int], own_uid: int) -> "Footprint":
        """Reads what the kernel says of a cell's first processes.

        Args:
            inits: Their pids on the machine.
            own_uid: The harness's user, whom a cell of a user without root shares.
        """
        cgroups = {folder for pid in inits for folder in _cgroups(pid)}
        ids = {ids for pid in inits for ids in outside_ids(pid) if own_uid not in ids}
        return cls(
            tuple((pid, start_time(pid)) for pid in inits),
            tuple(sorted(cgroups)),
            tuple(sorted(ids, key=lambda ids: ids.start)),
        )

    def may_live(self) -> bool:
        """A fast look: whether a first process runs or a control group is not empty."""
        return any(is_running(pid, start) for pid, start in self.inits) or any(self._members())

    def count(self) -> int:
        """A fast count of the processes in the cell's control groups; where there is none, of all that runs of it."""
        return len(set(self._members())) if self.cgroups else len(self.living())

    def living(self) -> set[int]:
        """Pids of all that runs; a zombie does not, unless one of its threads still does."""
        found = {pid for pid, start in self.inits if is_running(pid, start)}
        found.update(pid for pid in self._members() if _has_living_thread(pid))
        found.update(pid for pid in _processes() if self._is_of_its_user(pid) and _has_living_thread(pid))
        return found

    def left_over(self) -> list[str]:
        """Everything that is still there, in words; nothing where all is gone."""
        processes = [f"process {pid}" for pid in sorted(self.living())]
        return processes + [f"control group {folder}" for folder in self.cgroups if folder.exists()]

    def _members(self) -> Iterator[int]:
        for cgroup in self.cgroups:
            for folder, _, _ in os.walk(cgroup):  # it may be removed under way
                with contextlib.suppress(OSError):
                    yield from (int(line) for line in Path(folder, "cgroup.procs").read_text().split())

    def _is_of_its_user(self, pid: int) -> bool:
        uid = _uid(pid)
        return uid is not None and any(uid in ids for ids in self.ids)


@cache
def _hierarchies() -> dict[str, Path]:
    """Mount points by controller; the unified hierarchy's name is empty."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2":
            found.setdefault("", Path(place.split()[4]))
        elif kind == "cgroup":
            for controller in options.split(","):
                found.setdefault(controller, Path(place.split()[4]))
    return found


def _cgroups(pid: int) -> Iterator[Path]:
    """The folders of the cell that a process is in; their paths differ by controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.split("/")
        depth = next((depth for depth, part in enumerate(parts, 1) if is_of_a_cell(part)), None)
        mounted = _hierarchies().get(controllers.split(",")[0])
        if depth is not None and mounted is not None:
            yield mounted.joinpath(*parts[1:depth])


def outside_ids(pid: int) -> Iterator[range]:
    """The machine's user ids that those in the user namespace of a process are."""
    for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines():
        _, outside, size = (int(word) for word in line.split())
        yield range(outside, outside + size)


def _processes() -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            yield int(path.name)


def _uid(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        # A name may contain any bytes; the kernel escapes none of them but the line feed.
        for line in Path(f"/proc/{pid}/status").read_bytes().split(b"\n"):
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


def _has_living_thread(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if (thread / "stat").read_bytes().rpartition(b")")[2].split()[0] not in DEAD:
                    return True
    return False
