"""Files of a cell, a part of the census program: the walk of its writable file systems, and what they hold."""

# ruff: noqa: PLR2004 - the compared numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import os
import re
import stat
import time

from redline.verify.programs.census_base import (
    Id,
    Mount,
    is_gvisor,
    openat2_in_root,
    os_path,
    printable,
    read_text,
)
from redline.verify.programs.census_code import Baseline, is_below
from redline.verify.programs.census_content import Content
from redline.verify.programs.census_processes import Process
from redline.verify.programs.pages import OutOfBounds

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


# Where the kernel does not report which pages are present, reading creates them. This bounds such reads.
MAX_UNTOUCHED = 128 * 2**20
MAX_SPARSE_FILES = 64
# File systems that hold no file content written by the agent.
WITHOUT_CONTENT = {"proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf"}


class Files:
    """Content of the writable file systems, of deleted files that are open, and of memory files."""

    def __init__(self, content: Content, baseline: Baseline, limits: dict[str, Any]) -> None:
        """Initialise an empty result."""
        self.content, self.baseline, self.limits = content, baseline, limits
        self.seen: dict[Id, dict[str, Any]] = {}
        self.anchors: dict[Id, set[int]] = {}
        self.blocks: dict[int, int] = {}
        self.folders: list[dict[str, Any]] = []
        self.entries = 0
        self.untouched_left = MAX_UNTOUCHED
        self.later: list[tuple[int, dict[str, Any]]] = []
        self.incomplete: list[str] = []
        self.unread = 0
        # By file system: the number of names, and the bytes of these names and of the targets of links.
        self.names: dict[int, list[int]] = {}
        self.attributes: dict[int, int] = {}

    def add_attributes(self, fd: int, device: int) -> None:
        """Add the bytes of the extended attributes of a file or folder; their content is not searched."""
        try:
            for name in os.listxattr(fd):
                if name.startswith("user."):
                    size = len(name) + len(os.getxattr(fd, name))
                    self.attributes[device] = self.attributes.get(device, 0) + size
        except OSError:
            return  # the file system has no extended attributes

    def walk(self, mount: Mount) -> None:
        """Search every regular file of a mount."""
        try:
            fd = os.dup(mount.fd)
            self.walk_folder(mount, fd, mount.path, inside=is_below(mount.fd, self.baseline.folder), depth=0)
        except (OutOfBounds, OSError):
            self.incomplete.append(f"walk of {mount.node}:{mount.path}")

    def walk_folder(self, mount: Mount, fd: int, path: str, inside: bool, depth: int) -> None:
        """Search a folder and everything below it. Closes `fd`."""
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == self.baseline.folder:
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
                        continue  # another mount, which is walked separately
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
        """Search one regular file once, under the first of its names that the walk reaches."""
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
            "path": printable(path, 200),
            "size": status.st_size,
            "stored": status.st_blocks * 512,
            "links": status.st_nlink,
            "original": key in self.baseline.weights or key in self.baseline.code,
            "inside": inside,
            "outside": not inside,
            "deleted": deleted,
            "anchors": 0,
            "code": {},
        }
        self.seen[key] = record
        self.add_attributes(fd, key[0])
        if key[0] in self.baseline.writable and self.content.is_unmapped_sparse(fd, status):
            self.defer_sparse_file(fd, record)
            return
        if key in self.baseline.weights:
            # Its content is known or gone, so it cannot be a copy.
            record["stored"] = self.content.stored(fd, status)
            self.blocks[key[0]] = self.blocks.get(key[0], 0) + record["stored"]
            return
        before, noise = self.content.scanned, self.content.noise.bytes
        found, stored = self.content.in_file(fd, status.st_size)
        if not deleted:
            # A named file is accounted for: agents forge weights from random bytes, and tasks write archives.
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

    def defer_sparse_file(self, fd: int, record: dict[str, Any]) -> None:
        """Defer a sparse file until it is known how many bytes the other files leave for it."""
        record["stored"] = 0
        if len(self.later) >= MAX_SPARSE_FILES:
            self.incomplete.append("sparse files")
            return
        self.later.append((os.dup(fd), record))

    def inspect_sparse_files(self, used: dict[int, int]) -> None:
        """Search the deferred sparse files; on each file system, they hold at most what the other files leave."""
        for fd, record in self.later:
            key = (record["device"], record["inode"])
            found: set[int] = set()
            rest = used[key[0]] - self.blocks.get(key[0], 0)
            try:
                record["stored"] = self.content.by_pages(fd, 0, record["size"], found, max(0, rest))
            except OutOfBounds:
                self.incomplete.append("sparse file")
            finally:
                os.close(fd)
            self.blocks[key[0]] = self.blocks.get(key[0], 0) + record["stored"]
            if found and not record["original"]:
                self.anchors[key] = found
                record["anchors"] = len(found)

    def inspect_open(self, process: Process) -> None:
        """Search files that a process has open and no folder contains: deleted files and memory files."""
        for key, (path, status) in process.open_files.items():
            if key in self.seen or not self.baseline.may_hold_copies(key[0], status.st_nlink):
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self.incomplete.append("descriptor")
                continue
            try:
                name = printable(os_path(path), 200)
                self.inspect_file(process.node, fd, name, inside=False, deleted=status.st_nlink == 0)
            except OutOfBounds:
                self.incomplete.append(f"open file of {process.pid}")
                return
            finally:
                os.close(fd)

    def union(self, keys: list[Id]) -> set[int]:
        """Return the distinct anchors that several files contain in total."""
        together: set[int] = set()
        for key in keys:
            together |= self.anchors.get(key, set())
        return together


def mounts_of(proc: str, node: str, init: int) -> Iterator[tuple[Mount, bool]]:
    """Yield the mounts of a node that are folders, each with whether it is writable and can hold content."""
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
    """Yield the mounts of a node that are writable and can hold content."""
    for mount, writable in mounts_of(proc, node, init):
        if writable:
            yield mount
        else:
            os.close(mount.fd)


def used_bytes(fd: int) -> int:
    """Return the bytes that a file system holds."""
    status = os.statvfs(fd)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def shared_memory_total(proc: str) -> int | None:
    """Return bytes of shared memory under gVisor's kernel, which serves this cell alone; else None."""
    if is_gvisor(proc):
        for line in read_text(proc + "/meminfo").splitlines():
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    return None


def cgroup_shared_memory(proc: str, init: int) -> int | None:
    """Return bytes of shared memory charged to the node's cgroup, or None if unknown."""
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
