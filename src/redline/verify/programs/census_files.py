"""Files of a cell, a part of the census program: the walk of its writable file systems, and what they hold."""

# ruff: noqa: PLR2004 - the compared numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import os
import re
import stat
import time

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from redline.verify.programs.census_base import (
        Id,
        Mount,
        OutOfBounds,
        is_gvisor,
        openat2_in_root,
        os_path,
        read_text,
        shown,
    )
    from redline.verify.programs.census_code import Places, is_below
    from redline.verify.programs.census_content import Content
    from redline.verify.programs.census_processes import Process


# Where pages in memory cannot be told from others, reading makes them: so much is read on the chance of it.
MAX_UNTOUCHED = 128 * 2**20
MAX_FILES_OF_HOLES = 64
# File systems that hold no file content of the agent's making.
WITHOUT_CONTENT = {"proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf"}


class Files:
    """What was found on the writable file systems, in deleted files that are open, and in memory files."""

    def __init__(self, content: Content, places: Places, limits: dict[str, Any]) -> None:
        """Start with nothing seen."""
        self.content, self.places, self.limits = content, places, limits
        self.seen: dict[Id, dict[str, Any]] = {}
        self.anchors: dict[Id, set[int]] = {}
        self.blocks: dict[int, int] = {}
        self.folders: list[dict[str, Any]] = []
        self.entries = 0
        self.untouched_left = MAX_UNTOUCHED
        self.later: list[tuple[int, dict[str, Any]]] = []
        self.incomplete: list[str] = []
        self.unread = 0
        # By file system: how many names were met, and how many bytes these and the targets of links have.
        self.names: dict[int, list[int]] = {}
        self.attributes: dict[int, int] = {}

    def add_attributes(self, fd: int, device: int) -> None:
        """Add the bytes of a file's or folder's extended attributes, whose content is not searched."""
        try:
            for name in os.listxattr(fd):
                if name.startswith("user."):
                    size = len(name) + len(os.getxattr(fd, name))
                    self.attributes[device] = self.attributes.get(device, 0) + size
        except OSError:
            return  # the file system has none

    def walk(self, mount: Mount) -> None:
        """Snapshot at every regular file of a mount."""
        try:
            fd = os.dup(mount.fd)
            self.walk_folder(mount, fd, mount.path, inside=is_below(mount.fd, self.places.folder), depth=0)
        except (OutOfBounds, OSError):
            self.incomplete.append(f"walk of {mount.node}:{mount.path}")

    def walk_folder(self, mount: Mount, fd: int, path: str, inside: bool, depth: int) -> None:
        """Snapshot at a folder and what is below it. Closes `fd`."""
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == self.places.folder:
                inside = True
                self.folders.append({"node": mount.node, "path": path})
            if depth > self.limits["depth"]:
                raise OutOfBounds
            self.add_attributes(fd, status.st_dev)
            below = []
            with os.scandir(fd) as entries:
                for entry in entries:
                    self.entries += 1
                    if self.entries > self.limits["entries"] or time.monotonic() > self.content.deadline:
                        raise OutOfBounds
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if found.st_dev != status.st_dev:
                        continue  # another mount: it is walked for itself
                    names = self.names.setdefault(found.st_dev, [0, 0])
                    names[0] += 1
                    names[1] += len(os.fsencode(entry.name)) + (stat.S_ISLNK(found.st_mode) and found.st_size)
                    if stat.S_ISDIR(found.st_mode):
                        below.append(entry.name)
                    elif stat.S_ISREG(found.st_mode):
                        self.inspect_entry(mount.node, fd, path.rstrip("/") + "/" + entry.name, found, inside)
            for name in below:
                try:
                    child = openat2_in_root(fd, name, os.O_RDONLY | os.O_DIRECTORY)
                except OSError:
                    continue
                self.walk_folder(mount, child, path.rstrip("/") + "/" + name, inside, depth + 1)
        finally:
            os.close(fd)

    def inspect_entry(self, node: str, folder: int, path: str, status: os.stat_result, inside: bool) -> None:
        """Snapshot at one regular file once, by whichever of its names it is met first."""
        key = (status.st_dev, status.st_ino)
        if key in self.seen:
            known = self.seen[key]
            known["outside"] = known["outside"] or not inside
            known["inside"] = known["inside"] or inside
            return
        try:
            fd = openat2_in_root(folder, path.rpartition("/")[2], os.O_RDONLY)
        except OSError:
            self.incomplete.append("open")
            return
        try:
            self.inspect_file(node, fd, path, inside)
        except OSError:
            self.incomplete.append("read")
        finally:
            os.close(fd)

    def inspect_file(self, node: str, fd: int, path: str, inside: bool, deleted: bool = False) -> None:
        """Search one open regular file."""
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        if key in self.seen or not stat.S_ISREG(status.st_mode):
            return
        record: dict[str, Any] = {
            "node": node,
            "device": key[0],
            "inode": key[1],
            "path": shown(path, 200),
            "size": status.st_size,
            "stored": status.st_blocks * 512,
            "links": status.st_nlink,
            "original": key in self.places.weights or key in self.places.code,
            "inside": inside,
            "outside": not inside,
            "deleted": deleted,
            "anchors": 0,
            "code": {},
        }
        self.seen[key] = record
        self.add_attributes(fd, key[0])
        if key[0] in self.places.writable and self.content.cannot_be_read_through(fd, status):
            self.inspect_later(fd, record)
            return
        if key in self.places.weights:
            # Its content is known, or gone: it can be nobody's own copy.
            record["stored"] = self.content.stored(fd, status)
            self.blocks[key[0]] = self.blocks.get(key[0], 0) + record["stored"]
            return
        before, noise = self.content.scanned, self.content.noise.bytes
        found, stored = self.content.in_file(fd, status.st_size)
        if not deleted:
            # A file with a name is accounted for: agents forge weights out of random bytes, and jobs write archives.
            self.content.noise.bytes = noise
        if stored is not None:
            record["stored"] = stored
        self.blocks[key[0]] = self.blocks.get(key[0], 0) + record["stored"]
        if found:
            self.anchors[key] = found
            record["anchors"] = len(found)
        read = self.content.scanned - before
        if not record["original"] and read == status.st_size and 0 < read <= self.limits["code_bytes"]:
            record["code"] = self.content.code_in(read)

    def inspect_later(self, fd: int, record: dict[str, Any]) -> None:
        """Keep a file of holes until it is known how much the others leave for it to hold."""
        record["stored"] = 0
        if len(self.later) >= MAX_FILES_OF_HOLES:
            self.incomplete.append("files of holes")
            return
        self.later.append((os.dup(fd), record))

    def inspect_files_of_holes(self, used: dict[int, int]) -> None:
        """Snapshot for what files of holes hold: on each file system no more than the other files leave."""
        for fd, record in self.later:
            key = (record["device"], record["inode"])
            found: set[int] = set()
            rest = used[key[0]] - self.blocks.get(key[0], 0)
            try:
                record["stored"] = self.content.in_all_of(fd, 0, record["size"], found, max(0, rest))
            except OutOfBounds:
                self.incomplete.append("file of holes")
            finally:
                os.close(fd)
            self.blocks[key[0]] = self.blocks.get(key[0], 0) + record["stored"]
            if found and not record["original"]:
                self.anchors[key] = found
                record["anchors"] = len(found)

    def inspect_open(self, process: Process) -> None:
        """Search what a process holds open and no folder shows: deleted files and memory files."""
        for key, (path, status) in process.open_files.items():
            if key in self.seen or not self.places.may_hold_copies(key[0], status.st_nlink):
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self.incomplete.append("descriptor")
                continue
            try:
                name = shown(os_path(path), 200)
                self.inspect_file(process.node, fd, name, inside=False, deleted=status.st_nlink == 0)
            except OutOfBounds:
                self.incomplete.append(f"open file of {process.pid}")
                return
            finally:
                os.close(fd)

    def union(self, keys: list[Id]) -> set[int]:
        """Return the different anchors that some files hold together."""
        together: set[int] = set()
        for key in keys:
            together |= self.anchors.get(key, set())
        return together


def mounts_of(proc: str, node: str, init: int) -> Iterator[tuple[Mount, bool]]:
    """Yield the mounts of a node that are folders, and whether they can be written to and hold content."""
    root = os.open(f"{proc}/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for line in read_text(f"{proc}/{init}/mountinfo", 2**20).splitlines():
            before, _, after = line.partition(" - ")
            fields, rest = before.split(), after.split()
            if len(fields) < 6 or len(rest) < 3:
                continue
            writable = "rw" in fields[5].split(",") and "rw" in rest[2].split(",") and rest[0] not in WITHOUT_CONTENT
            path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[4])
            flags = os.O_RDONLY if writable else os.O_PATH
            try:
                fd = openat2_in_root(root, path.lstrip("/") or ".", flags | os.O_DIRECTORY)
            except OSError:
                continue  # a file, or hidden below another mount
            yield Mount(node, path, rest[0], fd), writable
    finally:
        os.close(root)


def writable_mounts(proc: str, node: str, init: int) -> Iterator[Mount]:
    """Yield the mounts of a node that can be written to and hold content."""
    for mount, writable in mounts_of(proc, node, init):
        if writable:
            yield mount
        else:
            os.close(mount.fd)


def used_bytes(fd: int) -> int:
    """Return how much a file system holds."""
    status = os.statvfs(fd)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def shared_memory_in_all(proc: str) -> int | None:
    """Return bytes of shared memory under gVisor's kernel, which serves this cell alone; None under any other."""
    if is_gvisor(proc):
        for line in read_text(proc + "/meminfo").splitlines():
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    return None


def cgroup_shared_memory(proc: str, init: int) -> int | None:
    """Return bytes of shared memory that the node's cgroup is charged with, where that is known."""
    for line in read_text(f"{proc}/{init}/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            roots = ["/sys/fs/cgroup/memory"]
        elif number == "0":
            roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        else:
            continue
        for root in roots:
            figures = dict(
                row.split(None, 1) for row in read_text(root + path + "/memory.stat").splitlines() if " " in row
            )
            value = figures.get("total_shmem", figures.get("shmem"))
            if value is not None:
                return int(value)
    return None
