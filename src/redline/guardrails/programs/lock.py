"""Give files or folders of a node to a user, with a mode. Run by `Cell.run_with_cell_privileges`; follows no link."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # The name that type checkers know: where this runs, `typing` may not be at hand.
if TYPE_CHECKING:
    from typing import Any

    # Given by the one who runs this.

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder, through no link."""


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Change what is held open, and the folders that are named."""
    folders = []
    if request["folders"]:
        root = os.open(f"/proc/{request['inits'][request['node']]}/root", os.O_PATH)
        folders = [openat2_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY) for path in request["folders"]]
    for fd in (*fds, *folders):
        os.fchown(fd, request["user"], request["user"])
        os.fchmod(fd, request["mode"])
    return {"changed": len(fds) + len(folders)}, []
