"""Change owner and mode of files and folders of a node, without following links. Run with privileges over a cell."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # Recognised by type checkers; `typing` might not be available where this runs.
if TYPE_CHECKING:
    from typing import Any

    # Provided by the caller.

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder without following links."""


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Change the open files and the named folders."""
    folders = []
    if request["folders"]:
        root = os.open(f"/proc/{request['inits'][request['node']]}/root", os.O_PATH)
        folders = [openat2_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY) for path in request["folders"]]
    for fd in (*fds, *folders):
        os.fchown(fd, request["user"], request["user"])
        os.fchmod(fd, request["mode"])
    return {"changed": len(fds) + len(folders)}, []
