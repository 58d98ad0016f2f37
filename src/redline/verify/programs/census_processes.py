"""Processes of a cell, a part of the census program: identity, descriptors, mapped files, listening addresses."""

# ruff: noqa: PLR2004 - the compared numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import errno
import os
import re
import stat

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from typing import Any

    from redline.verify.programs.census_base import (
        Id,
        is_gvisor,
        processes_without_watchers,
        read_text,
        shown,
        stat_fields,
    )
    from redline.verify.programs.census_hidden import (
        DEAD,
        THREADS_FIELD,
        Threads,
        UnreadableMappings,
        mappings,
        resident_bytes,
    )
    from redline.verify.programs.census_sockets import ADDRESS_LIMIT, SocketTable, UnixAddresses


NOT_SEEN = -1


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
