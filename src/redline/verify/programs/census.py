"""Census program: what runs in a cell, what it listens on, and where bytes of the weights and of the code lie.

Run as text by the keeper of a cell (outside, sees the machine's /proc) or, where the outside cannot see in, in each
node by the root of the cell on the node's own /proc, while everything else there is stopped: `request["inside"]` says
so, `request["proc"]` and `request["inits"]` say what to look at. Standard library only, and of that only what the
keeper has loaded: joined to the cell, it can read no more modules.

gVisor's kernel lacks some means of Linux: it cannot tell holes from data, nor which pages are in memory, nor whether
descriptors wait in a socket. There more is read, pages of zeros count as holes, and its account of shared memory tells
of bytes that no file explains.

The agent under test chose every name, link, file and process title that is met here. So: links are never followed by
the kernel on our behalf, only regular files are opened and never to wait, holes are skipped, and everything has a
bound. A bound that was reached is reported in `incomplete`; what was not looked at must not pass for empty.
"""

# ruff: noqa: PLR2004 - the numbers compared with are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import errno
import os
import re
import stat
import time

TYPE_CHECKING = False  # the name that type checkers know; the modules below it are needed by them only
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # The other parts of this program; they are put before this text, see `redline.verify._limits`.
    from redline.verify.programs.census_hidden import (
        DEAD,
        THREADS_FIELD,
        Mapping,
        Noise,
        Threads,
        UnreadableMappings,
        bytes_in_pipe,
        kernel_bytes,
        mappings,
        resident_bytes,
    )
    from redline.verify.programs.census_sockets import ADDRESS_LIMIT, SocketTable, UnixAddresses, socket_table

    # Given by the one who runs this.

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder, through no link and never to wait."""

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yield (node, pid) of every process of the cell; where this runs inside, of those that watch it, too."""


CHUNK = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
MARKER_BYTES = 2
KEY_BYTES = 8
ANCHOR_BYTES = 32
RECORD_BYTES = 8 + ANCHOR_BYTES
WHOLE = MARKER_BYTES + ANCHOR_BYTES
MAX_LINKS = 40
MAX_PARENTS = 64
MAX_TOKENS = 24
ZEROS = bytes(CHUNK)
# Where pages in memory cannot be told from others, reading makes them: so much is read on the chance of it.
MAX_UNTOUCHED = 128 * 2**20
MAX_MEMORY_FILES = 2000
MAX_FILES_OF_HOLES = 64
NOT_SEEN = -1
INODE_CHARGE = 1024
# File systems that hold no file content of the agent's making.
WITHOUT_CONTENT = {"proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf"}

Id = tuple[int, int]  # device and inode


class OutOfBounds(Exception):
    """A bound on time or amount was reached."""


class Mount:
    """A writable mount of a node."""

    def __init__(self, node: str, path: str, kind: str, fd: int) -> None:
        """Name the mount and its open folder."""
        self.node, self.path, self.kind, self.fd = node, path, kind, fd


def read_text(path: str, limit: int = 2**20) -> str:
    """Return the start of a file of /proc or /sys, empty where there is none or it may not be read.

    Its lines end at line feeds alone. `splitlines` would also split at the eight other characters that a name of the
    agent's choice can contain.
    """
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def shown(text: str, limit: int) -> str:
    """Return text for a reply: cut, and in characters that any JSON carries."""
    return text[:limit].encode("utf-8", "replace").decode()


# --- processes --------------------


def stat_fields(proc: str, pid: int) -> list[str]:
    """Return the fields of a process's stat behind its name: state, parent, group, session, …, start time as 20th."""
    text = read_text(f"{proc}/{pid}/stat", 4096)
    return text.rpartition(")")[2].split()


def is_gvisor(proc: str) -> bool:
    """Whether the kernel is gVisor's, whose /proc no process of the cell can change."""
    return os.path.exists(proc + "/sentry-meminfo")


def is_watcher(proc: str, pid: int) -> bool:
    """Whether a process is this one, the attendant that started it, or another program of the attendant's.

    Only a process itself makes children, so nothing of the agent's is ever among those of the attendant.
    """
    attendant = os.getppid()
    return pid in (os.getpid(), attendant) or stat_fields(proc, pid)[1:2] == [str(attendant)]


def processes_without_watchers(request: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (node, pid) of every process of the cell, those aside by which the harness sees it."""
    for node, pid in cell_processes(request["inits"]):
        if not (request["inside"] and is_watcher(request["proc"], pid)):
            yield node, pid


class Process:
    """One process of the cell."""

    def __init__(self, proc: str, node: str, pid: int, threads: Threads | None = None) -> None:
        """Read what identifies it."""
        self.proc, self.base = proc, f"{proc}/{pid}"
        self.shows_in_flight = not is_gvisor(proc)
        self.node, self.pid = node, pid
        fields = stat_fields(proc, pid)
        if len(fields) < 20:
            raise ProcessLookupError(pid)
        self.state, self.parent, self.session, self.start = fields[0], int(fields[1]), int(fields[3]), int(fields[19])
        self.threads = int(fields[THREADS_FIELD])
        self.known_threads = threads or Threads(proc)
        self.unseen: list[str] = []
        # The kernel calls a process dead whose first thread has ended, and shows nothing of it but in its threads.
        if self.state in DEAD and self.threads > 1:
            living = self.known_threads.living(pid)
            if living is None:
                self.unseen.append(f"threads of {pid}")
            else:
                self.base, self.state = living
        self.sockets: list[int] = []
        self.pipes: dict[Id, str] = {}
        self.open_files: dict[Id, tuple[str, os.stat_result]] = {}
        self.mapped: dict[Id, bool] = {}
        self.in_flight = 0
        self.memory: set[int] = set()
        self.code: list[dict[str, object]] = []

    @property
    def key(self) -> tuple[int, int]:
        """What tells this process from any later one of the same pid."""
        return self.pid, self.start

    def inspect_descriptors(self, most: int) -> bool:
        """Note sockets, pipes and regular files that are open in any thread. False if there were more than `most`."""
        if self.state in DEAD:
            return True
        complete_so_far = self.inspect_descriptors_of(self.base, most)
        if self.threads > 1:
            for base in self.known_threads.with_own_descriptors(self.pid, self.base):
                complete_so_far = self.inspect_descriptors_of(base, most) and complete_so_far
        return complete_so_far

    def inspect_descriptors_of(self, base: str, most: int) -> bool:
        """Note those of one thread's table."""
        try:
            names = os.listdir(base + "/fd")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH) and not self.has_ended():
                self.unseen.append(f"descriptors of {self.pid}")
            return True
        for name in names[:most]:
            path = f"{base}/fd/{name}"
            try:
                status = os.stat(path)
            except OSError:
                continue
            key = (status.st_dev, status.st_ino)
            if stat.S_ISSOCK(status.st_mode):
                if status.st_ino in self.sockets:
                    continue
                self.sockets.append(status.st_ino)
                if self.shows_in_flight:
                    self.in_flight += self.descriptors_in_flight(f"{base}/fdinfo/{name}")
                else:
                    self.in_flight = NOT_SEEN
            elif stat.S_ISFIFO(status.st_mode):
                self.pipes[key] = path
            elif stat.S_ISREG(status.st_mode):
                self.open_files[key] = (path, status)
        return len(names) <= most

    def descriptors_in_flight(self, path: str) -> int:
        """Return how many descriptors wait unread in a unix socket: files can hide there."""
        for line in read_text(path, 4096).splitlines():
            name, _, count = line.partition(":")
            if name == "scm_fds" and count.strip().isdigit():
                return int(count)
        return 0

    def inspect_maps(self) -> None:
        """Note the files that are mapped."""
        try:
            for one in mappings(self.base, self.proc, figures=False):
                if one.file[1]:
                    self.mapped[one.file] = one.deleted
        except UnreadableMappings:
            self.mapped.clear()
            if not self.has_ended():
                self.unseen.append(f"mappings of {self.pid}")

    def has_ended(self) -> bool:
        """Whether it has ended, perhaps since it was first looked at: the kernel then refuses what it told before."""
        fields = stat_fields(self.proc, self.pid)
        dead = not fields or (fields[0] in DEAD and fields[THREADS_FIELD : THREADS_FIELD + 1] in (["0"], ["1"]))
        return self.state in DEAD or dead

    def resident(self) -> int:
        """Return bytes of anonymous and shared memory that are in place; of all memory where that is not told."""
        return resident_bytes(self.base, self.proc)

    def describe(self, sockets: SocketTable, addresses: UnixAddresses) -> dict[str, Any]:
        """Return what the reply says about this process."""
        listens = self.addresses(sockets, addresses)
        try:
            program = os.readlink(self.base + "/exe")
        except OSError:
            program = ""
        return {
            "node": self.node,
            "pid": self.pid,
            "start": self.start,
            "parent": self.parent,
            "session": self.session,
            "state": self.state,
            "uid": user_of(self.base, self.proc),
            "name": shown(read_text(self.base + "/comm", 64).rstrip("\n"), 32),
            "title": shown(" ".join(self.arguments()), 240),
            "program": shown(program, 160),
            # An address that does not fit into evidence is counted and not listed, which makes the list incomplete.
            "listens": [address for address in listens if len(address) <= ADDRESS_LIMIT][:96],
            "listens_in_all": len(listens),
            "code": self.code[:8],
            "in_flight": self.in_flight,
        }

    def arguments(self) -> list[str]:
        """Return the command line as the process shows it now."""
        return [token for token in read_text(self.base + "/cmdline", 2**16).split("\0") if token]

    def addresses(self, sockets: SocketTable, unix: UnixAddresses) -> list[str]:
        """Return the addresses at which it listens."""
        found = set()
        for inode in self.sockets:
            # Rows of unix sockets can be forged where the kernel only has a table; they never replace a TCP listener.
            if inode in sockets.tcp:
                found.add(sockets.tcp[inode])
            elif inode in sockets.unix:
                found.update(unix.of(self.base, self.node, sockets.unix[inode]))
        return sorted(found)


def user_of(base: str, proc: str) -> int:
    """Return the user of a process, -1 if it is not told.

    Only Linux escapes a process's name in this text. Elsewhere the name is cut off it, as another file tells it.
    """
    try:
        with open(base + "/status", "rb") as status, open(base + "/comm", "rb") as comm:
            text, name = status.read(2**16), comm.read(64)
    except OSError:
        return -1
    if is_gvisor(proc):
        rest = text[len(b"Name:\t" + name) :] if text.startswith(b"Name:\t" + name) else b""
    else:
        rest = text.partition(b"\n")[2]
    uid = re.search(rb"^Uid:\s+(\d+)", rest, re.MULTILINE)
    return int(uid.group(1)) if uid else -1


# --- code --------------------


class Places:
    """Which inodes were generation 0's, and which devices the agent can write to."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Take them from the request."""
        self.weights = {tuple(pair) for pair in request["weights"]}
        self.code = {tuple(pair) for pair in request["code"]}
        self.folder = tuple(request["folder"])
        self.writable: set[int] = set()
        self.read_only: set[int] = set()
        # Original weight files, held open by the harness.
        self.pinned: list[int] = []
        # Where each node is looked at for itself, a file of another one may be open here.
        self.alone = bool(request.get("inside"))

    def may_hold_copies(self, device: int, links: int) -> bool:
        """Whether an open file may be of the agent's making."""
        return device in self.writable or links == 0 or (self.alone and device not in self.read_only)


def resolve(process: Process, root: int, token: str, folder: Id) -> tuple[os.stat_result, bool] | None:
    """Find the file that a path means for a process, without letting the kernel follow any link.

    Returns its status and whether the way to it leads through the original folder; None where there is no such file.
    """
    trail: list[int] = []
    try:
        if token.startswith("/"):
            trail.append(os.dup(root))
        else:
            trail.append(os.open(process.base + "/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        parts = [part for part in reversed(token.split("/")) if part not in ("", ".")]
        links = 0
        while parts:
            part = parts.pop()
            if part == "..":
                # From the root of the node ".." stays there, as it does for the process.
                here, top = os.fstat(trail[-1]), os.fstat(root)
                if (here.st_dev, here.st_ino) != (top.st_dev, top.st_ino):
                    trail.append(os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=trail[-1]))
                continue
            fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=trail[-1])
            status = os.fstat(fd)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                target = os.readlink("", dir_fd=fd)
                os.close(fd)
                if links > MAX_LINKS:
                    return None
                if target.startswith("/"):
                    trail.append(os.dup(root))
                parts += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
                continue
            trail.append(fd)
        return os.fstat(trail[-1]), len(trail) > 1 and is_below(trail[-2], folder)
    except (OSError, ValueError):
        return None
    finally:
        for fd in trail:
            os.close(fd)


def is_below(fd: int, folder: Id) -> bool:
    """Whether a folder is the given one or lies in it."""
    held = []
    try:
        here = fd
        for _ in range(MAX_PARENTS):
            status = os.fstat(here)
            if (status.st_dev, status.st_ino) == folder:
                return True
            here = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            held.append(here)
            above = os.fstat(here)
            if (above.st_dev, above.st_ino) == (status.st_dev, status.st_ino):
                return False
        return False
    except OSError:
        return False
    finally:
        for one in held:
            os.close(one)


def code_of(process: Process, root: int, places: Places) -> list[dict[str, object]]:
    """Return the files that a process's program and arguments name, and whose they are.

    `own` lies outside the original folder on a writable file system and is no original inode; `original` is generation
    0's; `missing` is a path that names nothing (any more). Files of the read-only system are left out.
    """
    found = []
    for token in [os_path(process.base + "/exe"), *process.arguments()[:MAX_TOKENS]]:
        path = token.partition("=")[2] if token.startswith("-") else token
        if not path or len(path) > 4096 or "\n" in path:
            continue
        hit = resolve(process, root, path, places.folder)
        if hit is None:
            if "/" in path and path.endswith((".py", ".sh", ".pl", ".js", ".rb", ".bin")):
                found.append({"path": shown(path, 160), "whose": "missing", "device": 0, "inode": 0})
            continue
        status, inside = hit
        if not stat.S_ISREG(status.st_mode) or status.st_dev not in places.writable:
            continue
        key = (status.st_dev, status.st_ino)
        whose = "original" if inside or key in places.code or key in places.weights else "own"
        found.append({"path": shown(path, 160), "whose": whose, "device": key[0], "inode": key[1]})
    return found


def os_path(link: str) -> str:
    """Return where a link of /proc points, empty where it cannot be read."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


# --- content --------------------


class Content:
    """Looks for runs of weight bytes, whatever they are called and wherever they begin."""

    def __init__(
        self, marker: bytes, packed: bytes, lines: dict[str, frozenset[bytes]], deadline: float, most: int
    ) -> None:
        """Index the anchors; stop at the deadline or after so many bytes."""
        self.pattern = re.compile(re.escape(marker), re.DOTALL)
        self.table: dict[bytes, int] = {}
        self.packed = packed
        self.count = len(packed) // RECORD_BYTES
        for index in range(self.count):
            begin = index * RECORD_BYTES + 8
            self.table[packed[begin : begin + KEY_BYTES]] = index
        self.lines = lines
        self.deadline = deadline
        self.left = most
        self.scanned = 0
        self.buffer = bytearray(CHUNK + WHOLE)
        self.noise = Noise()

    def in_file(self, fd: int, size: int) -> tuple[set[int], int | None]:
        """Return the anchors found in a file's data, and its bytes that are no holes where the kernel does not say."""
        found: set[int] = set()
        position = 0
        while position < size:
            try:
                begin = os.lseek(fd, position, os.SEEK_DATA)
                end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # no data behind this position
                return found, self.in_all_of(fd, position, size, found)
            self.in_range(fd, begin, end, found)
            position = max(end, position + 1)
        return found, None

    def in_all_of(self, fd: int, position: int, size: int, found: set[int] | None, most: int | None = None) -> int:
        """Read a file whose holes cannot be told: add its anchors, return the bytes of pages that are not all zero.

        Once that is as much as the file can hold at `most`, what follows are holes.
        """
        view = memoryview(self.buffer)
        kept = stored = 0
        while position < size and (most is None or stored < most):
            if self.left <= 0 or time.monotonic() > self.deadline:
                raise OutOfBounds
            count = os.preadv(fd, [view[kept : kept + min(CHUNK, size - position)]], position)
            if count <= 0:
                break
            position += count
            filled = kept + count
            if self.buffer[kept:filled] == ZEROS[:count]:
                kept = 0
                continue
            stored += sum(PAGE for at in range(kept, filled, PAGE) if self.buffer[at : at + PAGE].strip(b"\0"))
            self.left -= count
            self.scanned += count
            if found is not None:
                self.noise.add(self.buffer, kept, filled)
                self.match(filled, found)
            kept = min(filled, WHOLE - 1)
            view[:kept] = view[filled - kept : filled]
        return stored

    def cannot_be_read_through(self, fd: int, status: os.stat_result) -> bool:
        """Whether a file is larger than its file system and it cannot be told where it has data."""
        place = os.fstatvfs(fd)
        if status.st_size <= place.f_blocks * place.f_frsize:
            return False
        try:
            os.lseek(fd, 0, os.SEEK_DATA)
        except OSError as error:
            return error.errno != errno.ENXIO
        return False

    def stored(self, fd: int, status: os.stat_result) -> int:
        """Return how many bytes a file takes up whose content is not searched."""
        if status.st_size:
            try:
                os.lseek(fd, 0, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return self.in_all_of(fd, 0, status.st_size, None)
        return status.st_blocks * 512

    def in_range(self, fd: int, begin: int, end: int, found: set[int]) -> None:
        """Add the anchors of a range that is read in overlapping pieces."""
        view = memoryview(self.buffer)
        kept = 0
        while begin < end:
            if self.left <= 0 or time.monotonic() > self.deadline:
                raise OutOfBounds
            count = os.preadv(fd, [view[kept : kept + min(CHUNK, end - begin)]], begin)
            if count <= 0:
                break
            begin += count
            self.left -= count
            self.scanned += count
            filled = kept + count
            self.noise.add(self.buffer, kept, filled)
            self.match(filled, found)
            kept = min(filled, WHOLE - 1)
            view[:kept] = view[filled - kept : filled]

    def match(self, filled: int, found: set[int]) -> None:
        """Add the anchors that lie whole in the first bytes of the buffer."""
        buffer, table, last = self.buffer, self.table, filled - WHOLE
        for number, hit in enumerate(self.pattern.finditer(buffer, 0, filled)):
            begin = hit.end()
            index = table.get(bytes(buffer[begin : begin + KEY_BYTES]))
            if index is not None and begin - MARKER_BYTES <= last:
                at = index * RECORD_BYTES + 8
                if buffer[begin : begin + ANCHOR_BYTES] == self.packed[at : at + ANCHOR_BYTES]:
                    found.add(index)
            # A file of nothing but markers must not buy the agent minutes.
            if number % 65536 == 65535 and time.monotonic() > self.deadline:
                raise OutOfBounds

    def code_in(self, size: int) -> dict[str, float]:
        """Return for each bundled program the part of its lines that stands in the first bytes of the buffer."""
        text = {line.strip() for line in bytes(self.buffer[:size]).splitlines()}
        parts = {name: len(lines & text) / len(lines) for name, lines in self.lines.items() if lines}
        return {name: round(part, 3) for name, part in parts.items() if part >= 0.1}


def distinctive_lines(source: str) -> frozenset[bytes]:
    """Return the lines by which a program is known again: long enough not to stand in every program."""
    return frozenset(line.strip().encode() for line in source.splitlines() if len(line.strip()) >= 24)


# --- the walk --------------------


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


# --- memory --------------------


def search_memory(process: Process, files: Files) -> None:
    """Search memory that no file explains: anonymous, shared, or of files that are reachable in no other way."""
    fd = os.open(process.base + "/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            pages = os.open(process.base + "/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            search_all_memory(process, fd, files)
            return
        try:
            for part in present_mappings(process, files):
                for first, last in present_ranges(pages, part.begin, part.end, part.explained, files.content.deadline):
                    try:
                        files.content.in_range(fd, first, last, process.memory)
                    except OSError:
                        files.unread += last - first
        finally:
            os.close(pages)
    finally:
        os.close(fd)


def search_all_memory(process: Process, fd: int, files: Files) -> None:
    """Search memory of which the kernel does not say page by page whether it is there: all of it, within a bound."""
    for part in present_mappings(process, files):
        if part.explained and not part.private:
            continue
        untouched = part.end - part.begin - part.present
        if untouched > files.untouched_left:
            files.incomplete.append(f"memory of {process.pid}: more is reserved than can be read")
            continue
        files.untouched_left -= untouched
        begin = part.begin
        while begin < part.end:
            last = min(begin + CHUNK, part.end)
            try:
                files.content.in_range(fd, begin, last, process.memory)
            except OSError:
                # A page that cannot be read, say of a file that has become shorter; the others are read one by one.
                unread = 0
                for page in range(begin, last, PAGE):
                    try:
                        files.content.in_range(fd, page, page + PAGE, process.memory)
                    except OSError:
                        unread += PAGE
                files.unread += min(unread, part.present)
            begin = last if last == part.end else last - WHOLE + 1


class Range:
    """A part of a process's memory."""

    def __init__(self, one: Mapping, files: Files) -> None:
        """Say whether a searched file explains it, and how many bytes are in memory, and of these the process's own."""
        self.begin, self.end = one.begin, one.end
        # Pages of a searched or a read-only file are explained; those that a process made its own by writing are not.
        known = one.file in files.seen or one.file in files.places.weights or not one.deleted
        self.explained = one.file[1] != 0 and known
        self.present, self.private = one.bytes_of(b"Rss") + one.bytes_of(b"Swap"), one.bytes_of(b"Anonymous")


def present_mappings(process: Process, files: Files) -> Iterator[Range]:
    """Yield what of a process's memory holds anything, whoever may read it: rights are given and taken in no time."""
    for one in mappings(process.base, process.proc, figures=True, deadline=files.content.deadline):
        if not one.of_kernel and (one.figures.get(b"Rss") or one.figures.get(b"Swap")):
            yield Range(one, files)


def present_ranges(
    pages: int, begin: int, end: int, only_anonymous: bool, deadline: float
) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range that are in memory or swapped out; reserving terabytes costs the census little."""
    step = PAGE * 65536
    while begin < end:
        if time.monotonic() > deadline:
            raise OutOfBounds
        last = min(begin + step, end)
        entries = os.pread(pages, (last - begin) // PAGE * 8, begin // PAGE * 8)
        if not entries:
            return
        run = None
        # The top byte of an entry: bit 7 present, bit 6 swapped, bit 5 page of a file or of shared memory.
        for index, top in enumerate(entries[7::8]):
            if top & 0xC0 and not (only_anonymous and top & 0x20):
                run = index if run is None else run
            elif run is not None:
                yield begin + run * PAGE, begin + index * PAGE
                run = None
        if run is not None:
            yield begin + run * PAGE, last
        begin = last


# --- the modes --------------------


def find_processes(request: dict[str, Any]) -> tuple[list[Process], list[str]]:
    """Return the cell's processes with their descriptors, and what was left out."""
    proc, limits = request["proc"], request["limits"]
    found: list[Process] = []
    incomplete: list[str] = []
    threads = Threads(proc)
    # What the harness itself started hides nothing, whether or not all of it may be looked at.
    harness = {pid for pid, _ in request["generation_zero"]} | set(request["inits"].values())
    for node, pid in processes_without_watchers(request):
        if len(found) >= limits["processes"]:
            incomplete.append("processes")
            break
        try:
            process = Process(proc, node, pid, threads)
        except ProcessLookupError:
            continue
        except (OSError, ValueError, IndexError):
            incomplete.append(f"process {pid}")
            continue
        try:
            if not process.inspect_descriptors(limits["descriptors"]):
                incomplete.append(f"descriptors of {pid}")
            process.inspect_maps()
        except (OSError, ValueError, IndexError):
            # Whatever it is that cannot be read, it is of the agent's making, and not what the rest is judged by.
            incomplete.append(f"process {pid}")
        incomplete += process.unseen if pid not in harness else []
        found.append(process)
    return found, incomplete


def inspect(request: dict[str, Any], pinned: list[int], anchors: bytes) -> dict[str, Any]:
    """Take a census, with a search of content if `request["content"]`."""
    began = time.monotonic()
    proc, inits = request["proc"], request["inits"]
    places = Places(request)
    places.pinned = pinned
    sockets = socket_table(request)
    processes, incomplete = find_processes(request)
    roots: dict[str, int] = {}
    mounts: list[Mount] = []
    for node, init in inits.items():
        try:
            roots[node] = os.open(f"{proc}/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            for mount, writable in mounts_of(proc, node, init):
                if writable:
                    mounts.append(mount)
                else:
                    places.read_only.add(os.fstat(mount.fd).st_dev)
                    os.close(mount.fd)
        except OSError:
            incomplete.append("node " + node)
    places.writable = {os.fstat(mount.fd).st_dev for mount in mounts}
    first = set(inits.values())
    for process in processes:
        if process.pid not in first and process.node in roots:
            process.code = code_of(process, roots[process.node], places)
    reply: dict[str, Any] = {"incomplete": incomplete, "files": [], "mounts": [], "folders": [], "scanned": 0}
    if request["content"]:
        reply.update(search(request, what_to_find(request, anchors, began), places, processes, mounts))
        reply["incomplete"] = incomplete + reply["incomplete"]
    known = reply.pop("weights_of", {})
    addresses = UnixAddresses(roots, mounts)
    reply["processes"] = [
        {**process.describe(sockets, addresses), "init": process.pid in first, "weights": known.get(process.key)}
        for process in processes
    ]
    reply["incomplete"] += addresses.incomplete[:1]
    if "unexplained" in reply:
        in_kernel = sum(amount or sockets.unsure for amount in reply["unexplained"]["in_kernel"])
        reply["unexplained"]["sockets"] = sockets.bytes + min(sockets.unsure, in_kernel)
    reply["used"] = {str(os.fstat(mount.fd).st_dev): used_bytes(mount.fd) for mount in mounts}
    reply["seconds"] = round(time.monotonic() - began, 4)
    return reply


def what_to_find(request: dict[str, Any], anchors: bytes, began: float) -> Content:
    """Return the search for what the request asks for."""
    limits = request["limits"]
    lines = {name: distinctive_lines(source) for name, source in request["bundle"].items()}
    return Content(bytes.fromhex(request["marker"]), anchors, lines, began + limits["seconds"], limits["scan_bytes"])


def search(
    request: dict[str, Any],
    content: Content,
    places: Places,
    processes: list[Process],
    mounts: list[Mount],
) -> dict[str, Any]:
    """Search the content of everything that the agent could write to."""
    limits = request["limits"]
    files = Files(content, places, limits)
    for mount in mounts:
        files.walk(mount)
    skipped = {tuple(pair) for pair in request["generation_zero"]} | {(pid, 0) for pid in request["inits"].values()}
    for process in processes:
        files.inspect_open(process)
    # Original weight files that the agent unlinked live on: the harness holds them open.
    for fd in places.pinned:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) not in files.seen:
            files.blocks[status.st_dev] = files.blocks.get(status.st_dev, 0) + content.stored(fd, status)
    files.inspect_files_of_holes({os.fstat(mount.fd).st_dev: used_bytes(mount.fd) for mount in mounts})
    others = [one for one in processes if one.key not in skipped and (one.pid, 0) not in skipped]
    others = [one for one in others if one.state not in DEAD]
    # Pieces of a copy may lie in many processes: all together hold too little for one, or each is searched.
    if sum(process.resident() for process in others) < request["memory_floor"]:
        others = []
    for process in others:
        try:
            search_memory(process, files)
        except OutOfBounds:
            files.incomplete.append(f"memory of {process.pid}")
        except UnreadableMappings:
            files.incomplete.append(f"mappings of {process.pid}")
        except OSError:
            files.incomplete.append(f"memory of {process.pid} unreadable")
    telling = [record for record in files.seen.values() if record["anchors"] or record["code"] or record["original"]]
    telling.sort(key=lambda record: (-record["anchors"], record["original"], -len(record["code"]), record["path"]))
    own = [key for key, record in files.seen.items() if not record["original"]]
    memory: set[int] = set()
    for process in processes:
        memory |= process.memory
    own_anchors = memory | files.union(own)
    memory_files = [[*key, r["stored"]] for key, r in files.seen.items() if key[0] not in places.writable]
    if len(memory_files) > MAX_MEMORY_FILES:
        files.incomplete.append("memory files")
    return {
        "incomplete": sorted(set(files.incomplete))[:16],
        "files": telling[: limits["files_listed"]],
        "files_in_all": len(files.seen),
        "folders": files.folders[:4],
        "mounts": accounted(mounts, files),
        "memory_files": memory_files[:MAX_MEMORY_FILES],
        "shared_memory_in_all": shared_memory_in_all(request["proc"]),
        "shared_memory": [cgroup_shared_memory(request["proc"], init) for init in request["inits"].values()],
        "anchors": content.count,
        "own_file_anchors": as_bits(files.union(own)),
        "own_anchors": as_bits(own_anchors),
        "own_anchors_on": {node: as_bits(anchors_on(node, files, own, processes)) for node in request["inits"]},
        "weights_of": {process.key: weights_of(process, files) for process in processes},
        "scanned": content.scanned,
        "unexplained": {
            "unread": files.unread,
            "noise": int(content.noise.bytes),
            "pipes": bytes_in_pipes(processes, skipped),
            "names": bytes_of_names(mounts, files),
            "in_kernel": [kernel_bytes(request["proc"], init) for init in request["inits"].values()],
        },
    }


def bytes_of_names(mounts: list[Mount], files: Files) -> int:
    """Return the bytes of names, targets of links and extended attributes on the writable file systems.

    A tmpfs charges attributes to its bound on inodes, in units of 1 KiB, as it does each name.
    """
    found = 0
    for device, mount in {os.fstat(mount.fd).st_dev: mount for mount in mounts}.items():
        count, size = files.names.get(device, (0, 0))
        place = os.statvfs(mount.fd)
        nameless = sum(key[0] == device and one["deleted"] for key, one in files.seen.items())
        charged = place.f_files - place.f_ffree - 1 - count - nameless
        charge = charged * INODE_CHARGE if mount.kind == "tmpfs" else 0
        found += size + max(charge, files.attributes.get(device, 0))
    return found


def bytes_in_pipes(processes: list[Process], skipped: set[tuple[int, int]]) -> int:
    """Return how many bytes wait in the pipes that processes of the agent's hold, each pipe counted once."""
    pipes: dict[Id, tuple[int, str]] = {}
    for process in processes:
        if process.key not in skipped and (process.pid, 0) not in skipped:
            pipes.update({key: (process.pid, path) for key, path in process.pipes.items()})
    return sum(bytes_in_pipe(pid, path) for pid, path in pipes.values())


def anchors_on(node: str, files: Files, own: list[Id], processes: list[Process]) -> set[int]:
    """Return the different anchors in files and memory of one node."""
    found = files.union([key for key in own if files.seen[key]["node"] == node])
    for process in processes:
        if process.node == node:
            found |= process.memory
    return found


def as_bits(numbers: set[int]) -> str:
    """Return a set of numbers as the bits of one, in hex: sets of several nodes are joined by the harness."""
    bits = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 1 << number % 8
    return bits.hex()


def accounted(mounts: list[Mount], files: Files) -> list[dict[str, Any]]:
    """Return for each writable file system what it holds and what of it was found."""
    rows: dict[int, dict[str, Any]] = {}
    for mount in mounts:
        device = os.fstat(mount.fd).st_dev
        used, found = used_bytes(mount.fd), files.blocks.get(device, 0)
        rows.setdefault(
            device,
            {
                "node": mount.node,
                "path": shown(mount.path, 120),
                "kind": mount.kind,
                "device": device,
                "used": used,
                "found": found,
            },
        )
    return list(rows.values())


def weights_of(process: Process, files: Files) -> dict[str, Any]:
    """Return which weight bytes a process holds: files open or mapped, and memory."""
    held = set(process.open_files) | set(process.mapped)
    own = [key for key in held if key in files.anchors and not files.seen[key]["original"]]
    together = set(process.memory)
    for key in own:
        together |= files.anchors[key]
    return {
        "original": sum(1 for key in held if key in files.places.weights),
        "own_files": len(own),
        "own_inodes": [list(key) for key in sorted(own)[:16]],
        "named": any(not files.seen[key]["deleted"] for key in own),
        "file_anchors": len(files.union(own)),
        "memory_anchors": len(process.memory),
        "anchors": len(together),
    }


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """Wait until nothing has been added for a while: no process, no listener, no stored byte."""
    proc, inits = request["proc"], request["inits"]
    began = changed = time.monotonic()
    expected = {pid for pid, _ in request["generation_zero"]} | set(inits.values())
    mounts = [mount for node, init in inits.items() for mount in writable_mounts(proc, node, init)]
    known: set[object] = set()
    most: dict[tuple[str, ...], int] = {}
    while True:
        alive = [pid for _, pid in processes_without_watchers(request)]
        # By parent and name: a loop that starts `sleep` again and again adds nothing, unless they stay.
        processes = [(*stat_fields(proc, pid)[1:2], read_text(f"{proc}/{pid}/comm", 64)) for pid in alive]
        counts = {kind: processes.count(kind) for kind in set(processes)}
        sockets = socket_table(request).listening
        stored = {(os.fstat(mount.fd).st_dev, used_bytes(mount.fd)) for mount in mounts}
        now = time.monotonic()
        seen: set[object] = set(processes) | sockets | stored
        if not seen <= known or any(count > most.get(kind, 0) for kind, count in counts.items()):
            changed = now
        # What was there before and comes again, as the children of a loop do, adds nothing.
        known |= seen
        most = {kind: max(counts.get(kind, 0), most.get(kind, 0)) for kind in {*counts, *most}}
        alone = set(alive) <= expected
        if now - changed >= (request["quiet_alone"] if alone else request["quiet"]):
            return {"quiet": True, "alone": alone, "seconds": round(now - began, 3)}
        if now - began >= request["at_most"]:
            return {"quiet": False, "alone": alone, "seconds": round(now - began, 3)}
        time.sleep(request["pause"])


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Answer a request; the last descriptor, if any, holds the packed anchors, those before are original files."""
    if request["mode"] == "settle":
        return settle(request), []
    if not fds:
        return inspect(request, [], b""), []
    *pinned, packed = fds
    return inspect(request, pinned, os.pread(packed, os.fstat(packed).st_size, 0)), []
