"""Kill, remove and sweep the containers of one harness's cells by asking the Docker engine.

The loop and the lease are those of every other warden (`cell/programs/warden.py`); only the operations on a cell
differ. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time

from redline.cell.programs.manager import GONE_SECONDS, CellManager, runtime_environment
from redline.cell.programs.warden import main

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.manager import Reply

LABEL_OWNER = "redline.owner"
LABEL_CELL = "redline.cell"
ASK_TIMEOUT = 60.0
ENGINE_RETRY_SECONDS = 0.5
LEAST_SECONDS = 0.5
KEPT = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "HOME")


class SilentEngineError(RuntimeError):
    """Raised when the engine does not answer, so that nothing is known about its containers."""


class EngineManager(CellManager):
    """The operations on the Docker cells of one owner."""

    def ask(self, *arguments: str, seconds: float | None = None) -> list[str]:
        """Run a command of the engine and return the words of its output.

        Raises:
            SilentEngineError: The engine does not answer, or refuses. This is never the same as an empty answer:
                nothing is known then, so nothing must be reported as gone.
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
                env={**runtime_environment(), **environment},
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SilentEngineError(f"the Docker engine does not answer: {type(error).__name__}") from error
        if done.returncode != 0:
            raise SilentEngineError(f"the Docker engine refused: {done.stderr.strip()[-500:]}")
        return done.stdout.split()

    def attempt(self, *arguments: str, seconds: float | None = None) -> None:
        """Run a command that may fail because its work is already done; a later listing shows whether it is."""
        with contextlib.suppress(SilentEngineError):
            self.ask(*arguments, seconds=seconds)

    def containers(self, *filters: str, seconds: float | None = None) -> list[str]:
        """Return the ids of this owner's containers.

        Raises:
            SilentEngineError: The engine does not answer.
        """
        words = [f"label={LABEL_OWNER}={self.owner}", *filters]
        filtered = (word for each in words for word in ("--filter", each))
        return self.ask("ps", "--all", "--quiet", *filtered, seconds=seconds)

    def start(self, request: dict[str, Any], fds: list[int]) -> Reply:
        """Do nothing: Inspect's provider starts the containers, and the loop watches the age of the cell."""
        return {}, []

    def kill_cell(self, cell: str) -> int:
        """Kill the containers of a cell. Return how many still run.

        Raises:
            SilentEngineError: The engine did not answer within the time of a kill, so the number is unknown.
        """
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            left = deadline - time.monotonic()
            try:
                running = self.running(cell, left)
            except SilentEngineError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(ENGINE_RETRY_SECONDS)  # an engine that restarts is back soon
                continue
            if not running or left <= 0:
                return len(running)
            self.attempt("kill", *running, seconds=left)

    def running(self, cell: str, seconds: float) -> list[str]:
        """Return the ids of the containers of a cell in which something can still run."""
        label = f"label={LABEL_CELL}={cell}"
        states = ("running", "paused", "restarting")
        return [each for state in states for each in self.containers(label, f"status={state}", seconds=seconds)]

    def remove_cell(self, cell: str) -> None:
        """Remove the containers of a cell and its folder.

        Raises:
            SilentEngineError: The engine does not answer. The folder stays, so that the next sweep finds the cell.
            RuntimeError: Containers of the cell are left. The folder stays.
        """
        label = f"label={LABEL_CELL}={cell}"
        self.remove_containers(self.containers(label))
        if left := self.containers(label):
            raise RuntimeError(f"{len(left)} containers of the cell could not be removed")
        shutil.rmtree(self.cell_folder(cell), ignore_errors=True)

    def remove_containers(self, containers: list[str]) -> None:
        """Remove containers with their unnamed volumes."""
        if containers:
            self.attempt("rm", "--force", "--volumes", *containers)

    def sweep(self) -> bool:
        """End every cell of this owner, including one whose start was interrupted. Return whether nothing is left.

        If the engine does not answer, nothing is known to be gone: the sweep has failed, and the files by which the
        next sweep finds the cells stay.
        """
        for _ in range(3):
            try:
                self.remove_containers(self.containers())
                if not self.containers():
                    shutil.rmtree(os.path.join(self.folder, "cells"), ignore_errors=True)
                    return True
            except SilentEngineError:
                time.sleep(ENGINE_RETRY_SECONDS)
        return False


if __name__ == "__main__":
    main(EngineManager)
