"""Code of a process, a part of the census program: the files that its program and arguments name."""

# ruff: noqa: PLR2004 - the compared numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import os
import stat

from redline.verify.programs.census_base import Id, os_path, printable
from redline.verify.programs.census_processes import Process

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from typing import Any


MAX_LINKS = 40
MAX_PARENTS = 64
MAX_TOKENS = 24


class Baseline:
    """Inodes of generation 0's files, and devices that the agent can write to."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Read the inodes from the request."""
        self.weights = {tuple(pair) for pair in request["weights"]}
        self.code = {tuple(pair) for pair in request["code"]}
        self.folder = tuple(request["folder"])
        self.writable: set[int] = set()
        self.read_only: set[int] = set()
        # Original weight files that the harness holds open.
        self.pinned: list[int] = []
        # Where each node is inspected separately, a process can hold open a file of another node.
        self.per_node = bool(request.get("inside"))

    def may_hold_copies(self, device: int, links: int) -> bool:
        """Return whether the agent may have created an open file."""
        return device in self.writable or links == 0 or (self.per_node and device not in self.read_only)


def resolve(process: Process, root: int, token: str, folder: Id) -> tuple[os.stat_result, bool] | None:
    """Find the file that a path names for a process, without letting the kernel follow any link.

    Return its status and whether the path leads through the original folder, or None if there is no such file.
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
                # At the root of the node, ".." has no effect, as for the process itself.
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
    """Return whether a folder is the given one or below it."""
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


def code_of(process: Process, root: int, baseline: Baseline) -> list[dict[str, object]]:
    """Return the files that a process's program and arguments name, and their origin.

    `own`: outside the original folder, on a writable file system, not an original inode. `original`: a file of
    generation 0. `missing`: the path names no file (any more). Files of the read-only system are left out.
    """
    found = []
    for token in [os_path(process.base + "/exe"), *process.arguments()[:MAX_TOKENS]]:
        path = token.partition("=")[2] if token.startswith("-") else token
        if not path or len(path) > 4096 or "\n" in path:
            continue
        hit = resolve(process, root, path, baseline.folder)
        if hit is None:
            if "/" in path and path.endswith((".py", ".sh", ".pl", ".js", ".rb", ".bin")):
                found.append({"path": printable(path, 160), "origin": "missing", "device": 0, "inode": 0})
            continue
        status, inside = hit
        if not stat.S_ISREG(status.st_mode) or status.st_dev not in baseline.writable:
            continue
        key = (status.st_dev, status.st_ino)
        origin = "original" if inside or key in baseline.code or key in baseline.weights else "own"
        found.append({"path": printable(path, 160), "origin": origin, "device": key[0], "inode": key[1]})
    return found
