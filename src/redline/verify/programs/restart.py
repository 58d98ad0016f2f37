"""Restart program: records how processes were started, and removes what the ended processes of a cell leave behind.

The keeper of a cell runs this text; where the host cannot see into the cell, root of a node runs it. Standard library
only.

The agent under test chooses command lines, environments, working directories and memory. The program reads them with
bounds and passes them on as data.
"""

# ruff: noqa: PLR2004 - the numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import os
import stat
import time

from redline.verify.programs.pages import OutOfBounds, present_ranges

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # Provided by the process that runs this program.

    def stat_fields(pid: int) -> list[bytes]:
        """Return the fields of `/proc/PID/stat` after the name: state, parent, …, start time (20th)."""

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder without following a link and without blocking."""

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yield (node, pid) of every process of the cell; inside a cell, its observers are included."""


CHUNK = 2**22
START_FIELD = 19
PATHS = "paths"
"""Key of the paths of the original programs among the texts to search for."""
WITHOUT_CONTENT = {"proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf"}


def has_running_thread(pid: int, start: int) -> bool:
    """Return whether any thread of a process still runs."""
    fields = stat_fields(pid)
    return len(fields) > START_FIELD and int(fields[START_FIELD]) == start and running_task(pid) is not None


def read_words(path: str, limit: int) -> list[str] | None:
    """Return the NUL-separated words of a file of /proc, or None if it is missing or exceeds the limit."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError:
        return None
    if len(data) > limit:
        return None
    words = data.decode("utf-8", "surrogateescape").split("\0")
    return words[:-1] if words and words[-1] == "" else words


def read_link(path: str) -> str:
    """Return the target of a link of /proc, empty if it cannot be read."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def describe(pid: int, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return how a process was started, as one of its running threads shows it, or None if the process is gone.

    After its first thread has ended, a process shows no command line, working directory or program there.
    """
    fields = stat_fields(pid)
    if len(fields) <= START_FIELD:
        return None
    limit = request["command_bytes"]
    task = running_task(pid) or f"/proc/{pid}"
    return {
        "pid": pid,
        "start": int(fields[START_FIELD]),
        "command": read_words(f"{task}/cmdline", limit),
        "environment": read_words(f"{task}/environ", limit),
        "folder": read_link(f"{task}/cwd"),
        "program": read_link(f"{task}/exe"),
    }


def is_observer(pid: int) -> bool:
    """Return whether a process is this one, the attendant that started it, or another child of the attendant."""
    attendant = os.getppid()
    return pid in (os.getpid(), attendant) or stat_fields(pid)[1:2] == [b"%d" % attendant]


def processes(request: dict[str, Any]) -> dict[int, str]:
    """Return the cell's processes, without the nodes' first processes and the harness's observers."""
    first = set(request["inits"].values())
    return {
        pid: node
        for node, pid in cell_processes(request["inits"])
        if pid not in first and not (request["inside"] and is_observer(pid))
    }


def capture(request: dict[str, Any]) -> dict[str, Any]:
    """Record how processes were started and which bundled programs their memory holds, the requested ones first."""
    known = processes(request)
    deadline = time.monotonic() + request["seconds"]
    texts = {name: [text.encode() for text in given] for name, given in request["texts"].items()}
    requested = {pid for pid, start in request["processes"] if pid in known and has_running_thread(pid, start)}
    others = sorted(set(known) - requested - set(request["generation_zero"]))
    found: dict[str, list[dict[str, Any]]] = {"members": [], "others": []}
    for pid in [*sorted(requested), *others[: request["limit"]]]:
        seen, task = describe(pid, request), running_task(pid)
        if seen is not None and task is not None:
            parts, searched = texts_in_memory(task, texts, deadline)
            kind = "members" if pid in requested else "others"
            found[kind].append({**seen, "node": known[pid], "memory": parts, "searched": searched})
    return {**found, "left_out": max(0, len(others) - request["limit"])}


def activity(request: dict[str, Any]) -> dict[str, Any]:
    """Return the number of running processes, and figures that change while any of them makes progress."""
    seen = [stat_fields(pid) for pid in processes(request) if running_task(pid) is not None]
    running = [fields for fields in seen if len(fields) > START_FIELD]
    return {
        "alive": len(running),
        "ticks": sum(int(fields[11]) + int(fields[12]) for fields in running),
        "newest": max((int(fields[START_FIELD]) for fields in running), default=0),
    }


def words(request: dict[str, Any]) -> dict[str, Any]:
    """Return command lines and environments of the agent's processes, latest first; a client may need a key in them."""
    pids = sorted(set(processes(request)) - set(request["generation_zero"]), reverse=True)[: request["limit"]]
    limit = request["command_bytes"]
    tasks = [running_task(pid) or f"/proc/{pid}" for pid in pids]
    return {
        "commands": [read_words(f"{task}/cmdline", limit) or [] for task in tasks],
        "environments": [read_words(f"{task}/environ", limit) or [] for task in tasks],
    }


def running_task(pid: int) -> str | None:
    """Return the folder of a running thread, preferably the first; None if the process has ended."""
    if stat_fields(pid)[:1] not in ([], [b"Z"], [b"X"]):
        return f"/proc/{pid}"
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return None
    for task in tasks:
        folder = f"/proc/{pid}/task/{task}"
        try:
            with open(folder + "/stat", "rb") as file:
                if file.read(4096).rpartition(b")")[2].split()[0] not in (b"Z", b"X"):
                    return folder
        except (OSError, IndexError):
            continue
    return None


def texts_in_memory(task: str, texts: dict[str, list[bytes]], deadline: float) -> tuple[dict[str, float], bool]:
    """Return the fraction of each program's texts found in a process's own memory, and whether all was searched."""
    wanted = {name: set(given) for name, given in texts.items() if given}
    longest = max((len(text) for given in texts.values() for text in given), default=1)
    try:
        fd = os.open(task + "/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}, False
    chunk = bytearray(CHUNK)  # one for all reads: with a new one for each, most of the time goes into page faults
    try:
        for begin, end in present_parts(task, deadline):
            at = begin
            while at < end:
                if is_recognised(wanted, texts) and not lacks_paths(wanted, texts):
                    return found_fractions(texts, wanted), True
                if time.monotonic() > deadline:
                    raise OutOfBounds
                try:
                    count = os.preadv(fd, [memoryview(chunk)[: end - at]], at)
                except OSError:
                    break  # a guard page, or a page of a device
                if not count:
                    break
                for rest in wanted.values():
                    rest -= {text for text in rest if chunk.find(text, 0, count) >= 0}
                # Read overlapping pieces, so that no text is split.
                at = end if at + count >= end else at + max(count - longest, 1)
    except OutOfBounds:
        return found_fractions(texts, wanted), is_recognised(wanted, texts)
    finally:
        os.close(fd)
    return found_fractions(texts, wanted), True


def is_recognised(wanted: dict[str, set[bytes]], texts: dict[str, list[bytes]]) -> bool:
    """Return whether half of a program's texts are found, which identify it; the rest adds no certainty."""
    return any(len(rest) * 2 <= len(texts[name]) for name, rest in wanted.items() if name != PATHS)


def lacks_paths(wanted: dict[str, set[bytes]], texts: dict[str, list[bytes]]) -> bool:
    """Return whether paths of the original programs are searched for and none is found yet."""
    return PATHS in wanted and len(wanted[PATHS]) == len(texts[PATHS])


def found_fractions(texts: dict[str, list[bytes]], missing: dict[str, set[bytes]]) -> dict[str, float]:
    """Return the fraction of each program's texts that was found."""
    return {name: round(1 - len(missing[name]) / len(texts[name]), 3) for name in missing}


def present_parts(task: str, deadline: float) -> Iterator[tuple[int, int]]:
    """Yield the parts of a process's own memory that can hold anything.

    A page of private memory that was never used holds nothing, and reading it would create it: most of the memory for
    the stacks of threads is such. Where the kernel does not report which pages are present, all memory is read. So is
    shared memory: it keeps its content when a process drops its pages.

    Raises:
        OutOfBounds: The deadline has passed.
    """
    try:
        pages = os.open(task + "/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield from ((begin, end) for begin, end, _ in own_ranges(task))
        return
    try:
        for begin, end, private in own_ranges(task):
            yield from present_ranges(pages, begin, end, False, deadline) if private else [(begin, end)]
    finally:
        os.close(pages)


def own_ranges(task: str) -> list[tuple[int, int, bool]]:
    """Return the readable memory ranges that a process can write or that no file explains, smallest first.

    Each comes with whether it is private memory that belongs to no file.

    Interpreters keep the running program in many small ranges; weights are in large ones.
    """
    found = []
    try:
        with open(task + "/maps", "rb") as file:
            lines = file.read(2**24).splitlines()
    except OSError:
        return []
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) < 5 or not fields[1].startswith(b"r") or (len(fields) > 5 and fields[5].startswith(b"[v")):
            continue
        if fields[4] == b"0" or fields[1][1:2] == b"w":
            begin, _, end = fields[0].partition(b"-")
            private = fields[4] == b"0" and fields[1].endswith(b"p")
            found.append((int(begin, 16), int(end, 16), private))
    return sorted(found, key=lambda one: one[1] - one[0])


def clear(request: dict[str, Any]) -> dict[str, Any]:
    """Empty the original program files under all their remaining names, and remove the sockets of ended processes."""
    originals = {tuple(pair) for pair in request["code"]}
    walk = Walk(originals, request["entries"], time.monotonic() + request["seconds"])
    for node, init in request["inits"].items():
        for fd in writable_folders(init):
            walk.folder(fd, request["depth"])
        for path in request["sockets"].get(node, ()):
            remove_socket(init, path)
    return {"emptied": walk.emptied, "complete": walk.complete}


def remove_socket(init: int, path: str) -> None:
    """Remove the name of a socket; otherwise binding it again fails."""
    folder, _, name = path.rpartition("/")
    try:
        root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        parent = openat2_in_root(root, folder.lstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if stat.S_ISSOCK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
        finally:
            os.close(parent)
    except (OSError, ValueError):
        return  # gone already, or reached through a link
    finally:
        os.close(root)


class Walk:
    """Visits every file of the writable file systems."""

    def __init__(self, originals: set[tuple[int, int]], entries: int, deadline: float) -> None:
        """Stop after `entries` entries and at the deadline."""
        self.originals, self.left, self.deadline = originals, entries, deadline
        self.emptied = 0
        self.complete = True

    def folder(self, fd: int, depth: int) -> None:
        """Visit everything below a folder without following links. Closes `fd`."""
        try:
            device = os.fstat(fd).st_dev
            below = []
            with os.scandir(fd) as entries:
                for entry in entries:
                    self.left -= 1
                    if self.left < 0 or time.monotonic() > self.deadline:
                        self.complete = False
                        return
                    try:
                        found = entry.stat(follow_symlinks=False)
                        if found.st_dev != device:
                            continue  # another mount, which is visited separately
                        if stat.S_ISDIR(found.st_mode):
                            below.append(entry.name)
                        elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) in self.originals:
                            self.empty(fd, entry.name)
                    except OSError:
                        continue
            for name in below:
                if depth <= 0:
                    self.complete = False
                    return
                try:
                    child = openat2_in_root(fd, name, os.O_RDONLY | os.O_DIRECTORY)
                except OSError:
                    continue
                self.folder(child, depth - 1)
        finally:
            os.close(fd)

    def empty(self, folder: int, name: str) -> None:
        """Empty a file, and thereby every name of it."""
        fd = openat2_in_root(folder, name, os.O_WRONLY)
        try:
            if os.fstat(fd).st_size:
                os.ftruncate(fd, 0)
                self.emptied += 1
        finally:
            os.close(fd)


def writable_folders(init: int) -> Iterator[int]:
    """Yield open descriptors of a node's writable mounts that can hold files."""
    root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(f"/proc/{init}/mountinfo", "rb") as file:
            lines = file.read(2**20).decode("utf-8", "surrogateescape").splitlines()
        for line in lines:
            before, _, after = line.partition(" - ")
            fields, rest = before.split(), after.split()
            if len(fields) < 6 or len(rest) < 3 or rest[0] in WITHOUT_CONTENT:
                continue
            if "rw" not in fields[5].split(",") or "rw" not in rest[2].split(","):
                continue
            try:
                yield openat2_in_root(root, fields[4].lstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # a file, or hidden below another mount
    finally:
        os.close(root)


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Record how processes were started, count running ones, read their words, or clear what ended ones left."""
    if request["mode"] == "capture":
        return capture(request), []
    if request["mode"] == "words":
        return words(request), []
    if request["mode"] == "alive":
        return activity(request), []
    return clear(request), []
