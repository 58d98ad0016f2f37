"""Warden of Docker cells: holds the lease from outside, kills and removes containers, and sweeps at the harness's end.

The loop and the lease are those of every other cell's warden, which lies beside; only what is done to a cell differs:
the engine is asked to do it. Standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs import warden as common
else:
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "programs", "warden.py")
    spec = importlib.util.spec_from_file_location("common", place)
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)

LABEL_OWNER = "redline.owner"
LABEL_CELL = "redline.cell"
ASK_TIMEOUT = 60.0
GONE_SECONDS = 10.0
KEPT = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "HOME")


class Keeper(common.Keeper):
    """What can be done to the cells of one owner."""

    def ask(self, *arguments: str) -> list[str]:
        """Asks the engine. Returns the lines of its answer; none where it does not answer."""
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        try:
            done = subprocess.run(
                [self.runtime[0], *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ASK_TIMEOUT,
                check=False,
                env={**common.runtime_environment(), **environment},
            )
        except (OSError, subprocess.SubprocessError):
            return []
        return done.stdout.split() if done.returncode == 0 else []

    def containers(self, *filters: str) -> list[str]:
        """Ids of this owner's containers."""
        words = [f"label={LABEL_OWNER}={self.owner}", *filters]
        return self.ask("ps", "--all", "--quiet", *(word for each in words for word in ("--filter", each)))

    def start(self, request: dict[str, Any], fds: list[int]) -> common.Reply:
        """Notes that a cell is made; the loop watches its age."""
        return {}, []

    def kill_cell(self, cell: str) -> int:
        """Kills the containers of a cell. Returns how many still run."""
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            running = self.containers(f"label={LABEL_CELL}={cell}", "status=running")
            running += self.containers(f"label={LABEL_CELL}={cell}", "status=paused")
            if not running or time.monotonic() > deadline:
                return len(running)
            self.ask("kill", *running)

    def remove_cell(self, cell: str) -> None:
        """Removes the containers of a cell and its folder."""
        self.remove_containers(self.containers(f"label={LABEL_CELL}={cell}"))
        shutil.rmtree(self.cell_folder(cell), ignore_errors=True)

    def remove_containers(self, containers: list[str]) -> None:
        """Removes containers with their unnamed volumes."""
        if containers:
            self.ask("rm", "--force", "--volumes", *containers)

    def sweep(self) -> bool:
        """Ends every cell of this owner, one whose start was cut off too. Says whether nothing is left."""
        for _ in range(3):
            self.remove_containers(self.containers())
            if not self.containers():
                shutil.rmtree(os.path.join(self.folder, "cells"), ignore_errors=True)
                return True
        return False


def main() -> None:
    """Serves as every other warden does, with another keeper."""
    if len(sys.argv) > 1:  # sweep: end what a harness that is no more has left
        Keeper({"folder": sys.argv[1], "runtime": sys.argv[2:]}).sweep()
    else:
        common.main(Keeper)


if __name__ == "__main__":
    main()
