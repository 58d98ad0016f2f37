"""Processes of a cell, a part of the census program: identity, descriptors, mapped files, listening addresses."""

# ruff: noqa: PLR2004 - the compared numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import errno
import os
import re
import stat
import time

from redline.verify.programs.census_base import (
    Id,
    is_gvisor,
    printable,
    processes_without_observers,
    read_text,
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

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from typing import Any


NOT_SEEN = -1


class Process:
    """One process of the cell."""

    def __init__(self, proc: str, node: str, pid: int, threads: Threads) -> None:
        """Read the identity of the process."""
        self.proc, self.base = proc, f"{proc}/{pid}"
        self.shows_in_flight = not is_gvisor(proc)
        self.node, self.pid = node, pid
        fields = stat_fields(proc, pid)
        if len(fields) < 20:
            raise ProcessLookupError(pid)
        self.state, self.parent, self.session, self.start = fields[0], int(fields[1]), int(fields[3]), int(fields[19])
        self.threads = int(fields[THREADS_FIELD])
        self.known_threads = threads
        self.unseen: list[str] = []
        # Once its first thread has ended, the kernel reports a process as dead; only its other threads still show it.
        if self.state in DEAD and self.threads > 1:
            live = self.known_threads.live_thread(pid)
            if live is None:
                self.unseen.append(f"threads of {pid}")
            else:
                self.base, self.state = live
        self.sockets: list[int] = []
        self.pipes: dict[Id, str] = {}
        self.open_files: dict[Id, tuple[str, os.stat_result]] = {}
        self.mapped: dict[Id, bool] = {}
        self.in_flight = 0
        self.memory: set[int] = set()
        self.code: list[dict[str, object]] = []

    @property
    def key(self) -> tuple[int, int]:
        """Identify this process among all processes that ever have the same pid."""
        return self.pid, self.start

    def inspect_descriptors(self, limit: int) -> bool:
        """Record sockets, pipes and regular files that any thread has open. Return False if there are over `limit`."""
        if self.state in DEAD:
            return True
        complete_so_far = self.inspect_descriptors_of(self.base, limit)
        if self.threads > 1:
            for base in self.known_threads.with_separate_descriptors(self.pid, self.base):
                complete_so_far = self.inspect_descriptors_of(base, limit) and complete_so_far
        return complete_so_far

    def inspect_descriptors_of(self, base: str, limit: int) -> bool:
        """Record the descriptors in the table of one thread."""
        try:
            names = os.listdir(base + "/fd")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH) and not self.has_ended():
                self.unseen.append(f"descriptors of {self.pid}")
            return True
        for name in names[:limit]:
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
        return len(names) <= limit

    def descriptors_in_flight(self, path: str) -> int:
        """Return the number of descriptors that wait unread in a unix socket; a file can hide in such a descriptor."""
        for line in read_text(path, 4096).splitlines():
            name, _, count = line.partition(":")
            if name == "scm_fds" and count.strip().isdigit():
                return int(count)
        return 0

    def inspect_maps(self) -> None:
        """Record the mapped files."""
        try:
            for one in mappings(self.base, self.proc, figures=False):
                if one.file[1]:
                    self.mapped[one.file] = one.deleted
        except UnreadableMappings:
            self.mapped.clear()
            if not self.has_ended():
                self.unseen.append(f"mappings of {self.pid}")

    def has_ended(self) -> bool:
        """Return whether the process has ended, possibly since it was first inspected; /proc then refuses reads."""
        fields = stat_fields(self.proc, self.pid)
        dead = not fields or (fields[0] in DEAD and fields[THREADS_FIELD : THREADS_FIELD + 1] in (["0"], ["1"]))
        return self.state in DEAD or dead

    def resident(self) -> int:
        """Return resident bytes of anonymous and shared memory; of all memory where the kernel does not split them."""
        return resident_bytes(self.base, self.proc)

    def describe(self, sockets: SocketTable, addresses: UnixAddresses) -> dict[str, Any]:
        """Return the reply's entry for this process."""
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
            "name": printable(read_text(self.base + "/comm", 64).rstrip("\n"), 32),
            "title": printable(" ".join(self.arguments()), 240),
            "program": printable(program, 160),
            # The evidence cannot hold a longer address: it is counted but not listed, which makes the list incomplete.
            "listens": [address for address in listens if len(address) <= ADDRESS_LIMIT][:96],
            "listens_total": len(listens),
            "code": self.code[:8],
            "in_flight": self.in_flight,
        }

    def arguments(self) -> list[str]:
        """Return the command line as the process shows it now."""
        return [token for token in read_text(self.base + "/cmdline", 2**16).split("\0") if token]

    def addresses(self, sockets: SocketTable, unix: UnixAddresses) -> list[str]:
        """Return the addresses on which the process listens."""
        found = set()
        for inode in self.sockets:
            # An entry of /proc/net/unix can be forged; it never replaces a TCP listener.
            if inode in sockets.tcp:
                found.add(sockets.tcp[inode])
            elif inode in sockets.unix:
                found.update(unix.of(self.base, self.node, sockets.unix[inode]))
        return sorted(found)


def user_of(base: str, proc: str) -> int:
    """Return the user of a process, -1 if the kernel does not report it.

    Only Linux escapes a process's name in `status`. On gVisor, the name that `comm` contains is removed first.
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
    """Return the cell's processes with their descriptors, and what could not be inspected."""
    proc, limits = request["proc"], request["limits"]
    found: list[Process] = []
    incomplete: list[str] = []
    threads = Threads(proc, time.monotonic() + limits["seconds"])
    # Processes that the harness started hide nothing, so they never make the census incomplete.
    harness = {pid for pid, _ in request["generation_zero"]} | set(request["inits"].values())
    for node, pid in processes_without_observers(request):
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
            if request["content"]:
                process.inspect_maps()
        except (OSError, ValueError, IndexError):
            # The agent made whatever is unreadable; it must not prevent the inspection of the rest.
            incomplete.append(f"process {pid}")
        incomplete += process.unseen if pid not in harness else []
        found.append(process)
    return found, incomplete
