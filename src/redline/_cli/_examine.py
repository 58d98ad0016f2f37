"""What `redline doctor` looks at. Nothing here changes the machine; cells that are tried are removed."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import psutil

from redline._errors import RedlineError
from redline._names import one_line
from redline.cell import CellConfig, open_cell
from redline.cell.config import RuntimeName
from redline.cell.runtime import STRENGTH, WAYS_TO_GET, Runtime, find_runtime, unusable
from redline.cell.seal import SealReport, quick_seal

MIN_FREE_DISK_GIB = 2
MIN_FREE_MEMORY_GIB = 2
GIB = 2**30
KEYS = {
    "OpenAI": "OPENAI_API_KEY",
    "Anthropic": "ANTHROPIC_API_KEY",
    "Google": "GOOGLE_API_KEY",
    "Mistral": "MISTRAL_API_KEY",
    "xAI": "XAI_API_KEY",
    "Together": "TOGETHER_API_KEY",
    "OpenRouter": "OPENROUTER_API_KEY",
    "Groq": "GROQ_API_KEY",
    "Fireworks": "FIREWORKS_API_KEY",
    "Hugging Face": "HF_TOKEN",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "bad"]
    found: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Looks at everything that a run needs."""
    yield _system()
    cells = [_cell(found) for name in STRENGTH if (found := find_runtime(name)) is not None]
    works = any(finding.state == "ok" for finding in cells)
    for name in ("runsc", "runc", "crun", "docker"):
        yield _runtime(name)
    yield from cells
    if not works:
        yield Finding("cells", "bad", "no runtime makes a sealed cell here", WAYS_TO_GET["runc"])
    yield _cgroups()
    yield from _user_namespaces()
    yield _keys()
    yield _room("disk", psutil.disk_usage(str(Path.cwd())).free, MIN_FREE_DISK_GIB, "run where there is more room")
    yield _room("memory", psutil.virtual_memory().available, MIN_FREE_MEMORY_GIB, "use --cells 1 and small weights")


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}, Python {platform.python_version()}"
    if sys.platform != "linux":
        return Finding("system", "bad", found, "cells need Linux: use a Linux machine or virtual machine")
    return Finding("system", "ok", found)


def _runtime(name: RuntimeName) -> Finding:
    found = find_runtime(name)
    if found is None:
        return Finding(name, "note", "not installed", WAYS_TO_GET[name])
    return Finding(name, "ok", f"{found.version} ({found.program})")


def _cell(runtime: Runtime) -> Finding:
    what = f"a cell on {runtime.name}"
    reason = unusable(runtime)
    if reason is not None:
        return Finding(what, "note", f"cannot be made: {reason}")
    try:
        report = anyio.run(_try_cell, runtime.name)
    except (RedlineError, OSError, TimeoutError) as error:
        return Finding(what, "bad", f"could not be made: {one_line(error)}", "see the lines on namespaces and cgroups")
    if not report.verified:
        return Finding(what, "bad", report.summary(), "do not run anything here before every probe holds")
    notes = f"; {'; '.join(report.notes)}" if report.notes else ""
    return Finding(what, "ok", f"made, probed and removed; {report.summary()}{notes}")


async def _try_cell(name: RuntimeName) -> SealReport:
    async with open_cell(CellConfig(runtime=name)) as cell:
        return await quick_seal(cell)


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return Finding("cgroups", "ok", "version 2")
    if (root / "unified").exists():
        return Finding("cgroups", "ok", "hybrid: version 1 with the unified hierarchy beside it")
    if (root / "memory").exists():
        return Finding("cgroups", "ok", "version 1")
    return Finding("cgroups", "note", "none found", "memory and processor time of a cell are not bounded without them")


def _user_namespaces() -> Iterator[Finding]:
    most = _number(Path("/proc/sys/user/max_user_namespaces"))
    if most == 0:
        yield Finding("user namespaces", "bad", "switched off", "sysctl user.max_user_namespaces=15000")
        return
    yield Finding("user namespaces", "ok", f"at most {most}")
    if os.geteuid() == 0:
        return
    if not shutil.which("newuidmap"):
        yield Finding("rootless", "bad", "newuidmap is missing", "install the package uidmap (or shadow-utils)")
    if _number(Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")):
        yield Finding(
            "rootless", "note", "AppArmor restricts user namespaces", "run as root, or allow them for the runtime"
        )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _keys() -> Finding:
    there = [provider for provider, variable in KEYS.items() if os.environ.get(variable)]
    if there:
        return Finding("model keys", "ok", f"set for {', '.join(there)}")
    return Finding("model keys", "note", "none set", "set your provider's, such as OPENAI_API_KEY; controls need none")


def _room(what: str, free: int, least_gib: int, mend: str) -> Finding:
    found = f"{free / GIB:.1f} GiB free"
    return Finding(what, "ok", found) if free >= least_gib * GIB else Finding(what, "note", found, mend)
