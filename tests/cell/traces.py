"""What cells left on the host, found by traits that only they have, since other users run cells too."""

import os
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from redline.cell import Cell
from redline.cell.footprint import Footprint, outside_ids
from redline.seal.drills import footprint_of

CELL = re.compile(r"/pod-([0-9a-f]+-[0-9a-f]+)")
NAMESPACES = ("pid", "net", "ipc", "uts", "mnt", "user")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_kib(pid: int | str = "self") -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def control_groups(pattern: str) -> list[Path]:
    """Return cgroups by their name. A glob would fail if the cgroup of another user's cell disappears meanwhile."""
    found = ((Path(above, name), name) for above, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return [path for path, name in found if fnmatchcase(name, pattern)]


@dataclass
class Traces:
    """What identifies each recorded cell."""

    footprints: list[Footprint] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    claims: dict[Path, int] = field(default_factory=dict)
    """Inodes by path: another user may have claimed a released range of ids under the same name."""
    namespaces: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=list)

    def note(self, cell: Cell) -> None:
        self.footprints.append(footprint_of(cell))
        self.folders.append(cell.folder)
        claim = Path((cell.folder / "range").read_text())
        self.claims[claim] = claim.stat().st_ino
        self.names.append(cell.cgroup.removeprefix("pod-"))
        for node in cell.nodes.values():
            self.namespaces.update(os.readlink(f"/proc/{node.init_pid}/ns/{kind}") for kind in NAMESPACES)

    def left(self) -> list[str]:
        """Everything that is still there of any noted cell, in words."""
        assert self.footprints and all(folder.is_absolute() for folder in self.claims)
        alive = {pid for footprint in self.footprints for pid in footprint.live_pids() if not self._is_of_another(pid)}
        found = [f"process {pid}" for pid in sorted(alive)]
        found += [f"control group {path}" for each in self.footprints for path in each.cgroups if path.exists()]
        found += [str(path) for path in self.folders if path.exists()]
        found += [str(path) for path, inode in self.claims.items() if _inode(path) == inode]
        found += [f"namespace {name}" for name in sorted(self.namespaces & self._namespaces_in_use())]
        mounts, sockets = Path("/proc/self/mountinfo").read_text(), Path("/proc/net/unix").read_text()
        places = [str(folder) for folder in self.folders]
        found += [f"a mount of {name}" for name in places if name in mounts]
        found += [f"a socket of {name}" for name in places if name in sockets]
        found += [str(path) for path in control_groups("pod-*") if path.name.removeprefix("pod-") in self.names]
        return found

    def _is_of_another(self, pid: int) -> bool:
        """Whether a process is in a cell that was not noted, which got the ids of one that was."""
        try:
            cells = set(CELL.findall(Path(f"/proc/{pid}/cgroup").read_text()))
        except OSError:
            return False
        return bool(cells) and not cells & set(self.names)

    def _namespaces_in_use(self) -> set[str]:
        """Namespaces of all that runs with the ids of a noted cell.

        The kernel gives a namespace's number again once it is free, to another cell of somebody else's; and a zombie
        has kept nothing but its pid.
        """
        ids = {span for footprint in self.footprints for span in footprint.ids}
        found = set()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and not self._is_of_another(int(process.name)):
                try:
                    if ids & set(outside_ids(int(process.name))):
                        found |= {os.readlink(process / "ns" / kind) for kind in NAMESPACES}
                except OSError:
                    continue
        return found


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
