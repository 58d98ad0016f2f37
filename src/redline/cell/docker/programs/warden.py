"""Warden of Docker cells: holds the lease from outside, kills and removes containers, and sweeps at the harness's end.

The loop and the lease are those of every other cell's warden, which lies beside; only what is done to a cell differs:
the engine is asked to do it. Standard library only.
"""

from __future__ import annotations

import contextlib
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
AGAIN_SECONDS = 0.5
LEAST_SECONDS = 0.5
KEPT = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "HOME")


class SilentEngineError(RuntimeError):
    """The engine did not answer, so nothing is known of its containers."""


class CellManager(common.CellManager):
    """What can be done to the cells of one owner."""

    def ask(self, *arguments: str, seconds: float | None = None) -> list[str]:
        """Asks the engine and returns the words of its answer.

        Raises:
            SilentEngineError: It does not answer, or refuses. That is never the same as an empty answer: nothing is
                known then, so nothing may be reported as gone.
        """
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        try:
            done = subprocess.run(
                [self.runtime[0], *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ASK_TIMEOUT if seconds is None else max(seconds, LEAST_SECONDS),
                check=False,
                env={**common.runtime_environment(), **environment},
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SilentEngineError(f"the Docker engine does not answer: {type(error).__name__}") from error
        if done.returncode != 0:
            raise SilentEngineError(f"the Docker engine refused: {done.stderr.strip()[-500:]}")
        return done.stdout.split()

    def attempt(self, *arguments: str, seconds: float | None = None) -> None:
        """Asks for what can fail because it is done already; only a listing afterwards tells whether it is."""
        with contextlib.suppress(SilentEngineError):
            self.ask(*arguments, seconds=seconds)

    def containers(self, *filters: str, seconds: float | None = None) -> list[str]:
        """Ids of this owner's containers.

        Raises:
            SilentEngineError: The engine does not answer.
        """
        words = [f"label={LABEL_OWNER}={self.owner}", *filters]
        filtered = (word for each in words for word in ("--filter", each))
        return self.ask("ps", "--all", "--quiet", *filtered, seconds=seconds)

    def start(self, request: dict[str, Any], fds: list[int]) -> common.Reply:
        """Notes that a cell is made; the loop watches its age."""
        return {}, []

    def kill_cell(self, cell: str) -> int:
        """Kills the containers of a cell. Returns how many still run.

        Raises:
            SilentEngineError: The engine did not answer in the time that a kill has, so nobody knows.
        """
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            left = deadline - time.monotonic()
            try:
                running = self.running(cell, left)
            except SilentEngineError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_SECONDS)  # an engine that restarts is back soon
                continue
            if not running or left <= 0:
                return len(running)
            self.attempt("kill", *running, seconds=left)

    def running(self, cell: str, seconds: float) -> list[str]:
        """Ids of the containers of a cell in which something can still run."""
        label = f"label={LABEL_CELL}={cell}"
        states = ("running", "paused", "restarting")
        return [each for state in states for each in self.containers(label, f"status={state}", seconds=seconds)]

    def remove_cell(self, cell: str) -> None:
        """Removes the containers of a cell and its folder.

        Raises:
            SilentEngineError: The engine does not answer. The folder stays, so that the next sweep finds the cell.
            RuntimeError: Containers of the cell are left; so does the folder.
        """
        label = f"label={LABEL_CELL}={cell}"
        self.remove_containers(self.containers(label))
        if left := self.containers(label):
            raise RuntimeError(f"{len(left)} containers of the cell could not be removed")
        shutil.rmtree(self.cell_folder(cell), ignore_errors=True)

    def remove_containers(self, containers: list[str]) -> None:
        """Removes containers with their unnamed volumes."""
        if containers:
            self.attempt("rm", "--force", "--volumes", *containers)

    def sweep(self) -> bool:
        """Ends every cell of this owner, one whose start was cut off too. Says whether nothing is left.

        With an engine that does not answer nothing is known to be gone: that is no end of a sweep, and what the next
        one finds the cells by stays.
        """
        for _ in range(3):
            try:
                self.remove_containers(self.containers())
                if not self.containers():
                    shutil.rmtree(os.path.join(self.folder, "cells"), ignore_errors=True)
                    return True
            except SilentEngineError:
                time.sleep(AGAIN_SECONDS)
        return False


def main() -> None:
    """Serves as every other warden does, with another manager."""
    if len(sys.argv) > 1:  # sweep: end what a harness that is no more has left
        sys.exit(0 if CellManager({"folder": sys.argv[1], "runtime": sys.argv[2:]}).sweep() else 1)
    else:
        common.main(CellManager)


if __name__ == "__main__":
    main()
