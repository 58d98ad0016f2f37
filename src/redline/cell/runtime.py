"""The container runtimes of this machine: which there are, which work, and how each is called."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from redline._errors import UsageError
from redline.cell.config import RuntimeName

STRENGTH: tuple[RuntimeName, ...] = ("runc", "crun")
"""Runtimes that `auto` tries, the strongest first."""

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VERSION_TIMEOUT = 10.0


@dataclass(frozen=True)
class Runtime:
    """An installed container runtime."""

    name: RuntimeName
    program: Path
    version: str

    def command(self, owner: Path) -> list[str]:
        """The runtime's command line up to its verb, with a state folder of the harness's own."""
        return [str(self.program), "--root", str(owner / "runtime-state")]


def find_runtime(name: RuntimeName) -> Runtime | None:
    """The runtime of that name, None where it is not installed."""
    program = shutil.which(name, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Runtime(name=name, program=Path(program), version=answer.stdout.strip().splitlines()[0])


def choose_runtime(name: RuntimeName) -> Runtime:
    """Finds the runtime that a configuration asks for.

    Raises:
        UsageError: It is not installed or not supported yet.
    """
    wanted = STRENGTH if name == "auto" else (name,)
    for candidate in wanted:
        if candidate not in STRENGTH:
            raise UsageError(
                f"runtime {candidate} cannot make cells in this version: use one of {', '.join(STRENGTH)}."
            )
        found = find_runtime(candidate)
        if found is not None:
            return found
    raise UsageError(f"no container runtime found ({', '.join(wanted)}): install runc with the system's package tool.")
