"""Code of a process, a part of the census program: the files that its program and arguments name, and whose they are."""

# ruff: noqa: PLR2004 - the compared numbers are positions of fields in the texts of /proc, see proc(5)
from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from typing import Any

    from redline.verify.programs.census_base import Id, os_path, shown
    from redline.verify.programs.census_processes import Process


MAX_LINKS = 40
MAX_PARENTS = 64
MAX_TOKENS = 24


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
