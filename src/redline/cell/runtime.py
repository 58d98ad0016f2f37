"""The container runtimes of this machine: which there are, which work, and how each is called."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast, get_args

from redline._errors import UsageError
from redline.cell.config import RuntimeName

STRENGTH: tuple[RuntimeName, ...] = ("runsc", "runc", "crun", "docker")
"""Runtimes that `auto` tries, the strongest first: a kernel of its own, then the machine's, then one with a daemon."""

DEFAULT_VARIABLE = "REDLINE_RUNTIME"
"""Environment variable that says which runtime `auto` is to take."""

GVISOR_OPTIONS = ("--platform=systrap", "--network=none", "--host-uds=none", "--oci-seccomp", "--overlay2=none")
"""Loopback only, no socket of the machine, our system call filter inside too, and no writable root in memory."""

WAYS_TO_GET: dict[RuntimeName, str] = {
    "runsc": "install gVisor: see gvisor.dev/docs",
    "runc": "install runc with the system's package tool, such as: apt-get install runc",
    "crun": "install crun with the system's package tool; runc is enough",
    "docker": "install Docker and start its engine; runc is enough",
}

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VERSION_TIMEOUT = 10.0
TRY_TIMEOUT = 30.0


@dataclass(frozen=True)
class Runtime:
    """An installed container runtime."""

    name: RuntimeName
    program: Path
    version: str

    def command(self, owner: Path) -> list[str]:
        """The runtime's command line up to its verb, with a state folder of the harness's own."""
        options = GVISOR_OPTIONS if self.inside else ()
        return [str(self.program), "--root", str(owner / "runtime-state"), *options]

    @property
    def inside(self) -> bool:
        """Whether the machine cannot see into its cells, so that an attendant inside must look."""
        return self.name in ("runsc", "docker")


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
            errors="replace",
            timeout=VERSION_TIMEOUT,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.strip().splitlines()
    return Runtime(name=name, program=Path(program), version=lines[0] if lines else "of an unknown version")


def choose_runtime(name: RuntimeName) -> Runtime:
    """Finds the runtime that a configuration asks for.

    Raises:
        UsageError: It is not installed, or does not work for this user.
    """
    if name == "auto":
        name = _default()
    reasons = []
    for candidate in STRENGTH if name == "auto" else (name,):
        found = find_runtime(candidate)
        reason = f"{candidate} is not installed" if found is None else unusable(found)
        if found is not None and reason is None:
            return found
        reasons.append(reason if found is not None else f"{reason}; {WAYS_TO_GET[candidate]}")
    if name == "auto":
        raise UsageError(f"no container runtime works here: {WAYS_TO_GET['runc']}.")
    raise UsageError(f"runtime {name}: {reasons[0]}; `redline doctor` says what works here.")


def _default() -> RuntimeName:
    wanted = os.environ.get(DEFAULT_VARIABLE) or "auto"
    for known in get_args(RuntimeName):
        if wanted == known:
            return cast("RuntimeName", known)
    raise UsageError(f"{DEFAULT_VARIABLE}={wanted} names no runtime: use one of {', '.join(get_args(RuntimeName))}.")


@cache
def unusable(runtime: Runtime) -> str | None:
    """Why a runtime that is installed can make no cells here, None where it can.

    gVisor needs root and a processor that its platform knows, so it is tried; what else is missing shows when a cell is
    made, and `redline doctor` makes one.
    """
    if runtime.name == "docker":
        return _without_engine(runtime)
    if runtime.name != "runsc":
        return None
    if os.geteuid() != 0:
        return "gVisor makes cells for root only"
    with tempfile.TemporaryDirectory(prefix="pods-") as folder:
        command = [str(runtime.program), "--root", folder, *GVISOR_OPTIONS, "--ignore-cgroups", "do", "true"]
        return _fault(command, TRY_TIMEOUT)


def _without_engine(runtime: Runtime) -> str | None:
    return _fault([str(runtime.program), "compose", "version"], VERSION_TIMEOUT) or _fault(
        [str(runtime.program), "version", "--format", "{{.Server.Version}}"], VERSION_TIMEOUT
    )


def _fault(command: list[str], timeout: float) -> str | None:
    """The first line of what a command says when it fails, None where it works."""
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
    lines = done.stderr.strip().splitlines()
    return lines[0][:200] if lines else f"it ends with code {done.returncode}"
