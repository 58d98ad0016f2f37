"""The contract of a container runtime: how it is found, started and described."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.known_errors import find_known_error, in_plain_words
from redline.cell.toolset import SEARCH_PATH
from redline.cell.traits import Traits
from redline.cell.warden import LEASE_SECONDS, Warden

VERSION_TIMEOUT = 10.0


@dataclass(frozen=True)
class Runtime(ABC):
    """An installed container runtime. Each runtime is a subclass, which is listed in `cell/open.py`."""

    traits: ClassVar[Traits]

    program: Path
    version: str

    @property
    def name(self) -> str:
        """Name of the runtime."""
        return self.traits.name

    @classmethod
    def find(cls) -> Self | None:
        """Return the installed runtime; None if it is not installed."""
        program = shutil.which(cls.traits.name, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")
        if program is None:
            return None
        try:
            answer = subprocess.run(
                [program, "--version"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=VERSION_TIMEOUT,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        first, _, _ = answer.stdout.strip().partition("\n")
        return cls(Path(program), first or "of an unknown version")

    def defect(self) -> str | None:
        """Return why the installed runtime can make no cells here; None if nothing is known to prevent it.

        Only a cell shows the rest, and `redline doctor` makes one.
        """
        return None

    @abstractmethod
    def start_warden(self, lease_seconds: float = LEASE_SECONDS) -> Warden:
        """Sweep what dead harnesses left, create this harness's folder and start its warden.

        Args:
            lease_seconds: Silence after which the warden takes the harness for dead. Shorter in drills.

        Raises:
            UsageError: This user can make no cells here.
            CellError: The warden did not come up.
        """

    @classmethod
    @abstractmethod
    async def start_cell(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> Cell:
        """Make a cell and wait until each node's first process serves.

        Args:
            config: Its shape and quotas.
            warden: A warden that this runtime started.
            patch: Changes a node's specification, or its service, before it is used. Only the seal's own tests use
                it, for cells with one injected defect.

        Raises:
            UsageError: This user or host can make no cells.
            CellError: The runtime refused.
        """

    def sweep(self) -> int:
        """Remove what dead harnesses left outside their folders, if anything; return the number of removed things."""
        return 0


def first_error_line(command: Sequence[str], timeout: float) -> str | None:
    """Run a command; return the first line of its error, in plain words if it is known; None if it succeeds."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    if find_known_error(done.stderr):
        return in_plain_words(done.stderr)
    lines = done.stderr.strip().splitlines()
    return lines[0][:200] if lines else f"it ends with code {done.returncode}"
