"""Create the subject's files in a node and return descriptors of the folder and the weight files.

Run by `Cell.run_with_cell_privileges`. The folder is new and belongs to the agent's user, which has not run anything
yet. No link is followed nevertheless.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # type checkers know this name; `typing` can be missing where this runs
if TYPE_CHECKING:
    from typing import Any

    # Provided by the caller.

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder without following links."""


AGENT = 1000


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Create folders, small files and empty weight files."""
    root = os.open(f"/proc/{request['inits'][request['node']]}/root", os.O_PATH)
    for folder in request["folders"]:
        make_folder(root, folder)
    code = {path: make_file(root, path, text.encode()) for path, text in request["files"].items()}
    weights = [open_new(root, path) for path in request["weights"]]
    top = openat2_in_root(root, request["folders"][0], os.O_RDONLY | os.O_DIRECTORY)
    return {"code": code, "weights": [inode(fd) for fd in weights], "folder": inode(top)}, [top, *weights]


def make_folder(root: int, path: str) -> None:
    """Create a folder that belongs to the agent's user."""
    above, name = os.path.split(path)
    parent = openat2_in_root(root, above, os.O_PATH | os.O_DIRECTORY)
    os.mkdir(name, 0o755, dir_fd=parent)
    os.chown(name, AGENT, AGENT, dir_fd=parent, follow_symlinks=False)
    os.close(parent)


def make_file(root: int, path: str, content: bytes) -> list[int]:
    """Create a file; return its device and inode."""
    fd = open_new(root, path)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        return inode(fd)


def inode(fd: int) -> list[int]:
    """Return the device and inode of an open file."""
    status = os.fstat(fd)
    return [status.st_dev, status.st_ino]


def open_new(root: int, path: str) -> int:
    """Create an empty file that belongs to the agent's user."""
    fd = openat2_in_root(root, path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.fchown(fd, AGENT, AGENT)
    return fd
