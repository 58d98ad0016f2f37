"""What `redline doctor` looks at. Nothing here changes the machine; cells that are tried are removed."""

import getpass
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import psutil

from redline._base import read_toml
from redline._cli._examine_models import model_servers
from redline._cli._finding import Finding, State
from redline._errors import RedlineError, UsageError
from redline._names import one_line
from redline.cell import CellConfig, open_cell
from redline.cell.config import RuntimeName
from redline.cell.open import RECOMMENDED, choose_runtime, every_runtime, traits_of, unusable
from redline.cell.runtime import Runtime
from redline.cell.state import SUBGID, SUBUID, own_subordinate_ids
from redline.seal import SealReport, quick_seal

PYTHONS = ((3, 11), (3, 13))
MIN_FREE_DISK_GIB = 2
MIN_FREE_MEMORY_GIB = 2
GIB = 2**30
TRY_SECONDS = 20


def examine() -> Iterator[Finding]:
    """Looks at everything that a run needs, and at what makes it better."""
    yield _system()
    yield _python()
    cells = [_cell(found) for kind in every_runtime() if (found := kind.find()) is not None]
    working = [finding.what.removeprefix(A_CELL) for finding in cells if finding.state == "ok"]
    for kind in every_runtime():
        yield _runtime(kind)
    for finding in cells:
        yield _beside(finding, working)
    if not working:
        yield Finding("cells", "missing", "no runtime makes a sealed cell here", way_to_get(RECOMMENDED))
    yield _cgroups()
    for finding in _user_namespaces():
        yield _beside(finding, working)
    yield _auto(working)
    for name in working:
        yield _calibration(name)
    yield from model_servers()
    yield _local()
    yield _chromium()
    yield _room(
        "disk", psutil.disk_usage(str(Path.cwd())).free, MIN_FREE_DISK_GIB, "give --out a folder with more room"
    )
    yield _room("memory", psutil.virtual_memory().available, MIN_FREE_MEMORY_GIB, "run with --cells 1")


def way_to_get(name: str) -> str:
    """What to type on this machine to install a program."""
    for tool, theirs in read_toml("redline._cli", "packages.toml").items():
        if name in theirs and shutil.which(tool):
            return f"{theirs['install']} {theirs[name]}"
    known = {kind.traits.name: kind.traits.how_to_install for kind in every_runtime()}
    return known.get(name, f"install {name} with the system's package tool")


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform != "linux":
        return Finding("system", "missing", found, "cells need Linux: use a Linux machine or virtual machine")
    return Finding("system", "ok", found)


def _python() -> Finding:
    first, last = (".".join(map(str, version)) for version in PYTHONS)
    found = f"{platform.python_version()} ({sys.executable})"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("python", "ok", found)
    return Finding("python", "missing", found, f"make the environment with Python {first} to {last}")


def _runtime(kind: type[Runtime]) -> Finding:
    found, name = kind.find(), kind.traits.name
    if found is None:
        return Finding(name, "optional", "not installed", way_to_get(name))
    return Finding(name, "ok", f"{found.version} ({found.program})")


A_CELL = "a cell on "


def _cell(runtime: Runtime) -> Finding:
    what = f"{A_CELL}{runtime.name}"
    reason = unusable(runtime)
    if reason is not None:
        return Finding(what, "optional", f"cannot be made: {reason}")
    try:
        report = anyio.run(_try_cell, runtime.name)
    except (RedlineError, OSError, TimeoutError) as error:
        return Finding(
            what, "missing", f"could not be made: {one_line(error)}", "see user namespaces and cgroups below"
        )
    if not report.verified:
        return Finding(what, "missing", report.summary(), f"redline seal --runtime {runtime.name}")
    notes = f"; {'; '.join(report.notes)}" if report.notes else ""
    return Finding(what, "ok", f"made, probed and removed; {report.summary()}{notes}")


def _beside(finding: Finding, working: list[str]) -> Finding:
    """The finding as it matters beside the runtimes that work: one is enough."""
    if finding.state == "ok" or not working:
        return finding
    fix = f"runs work with --runtime {working[0]}" + (f"; {finding.fix}" if finding.fix else "")
    return replace(finding, state="optional", fix=fix)


async def _try_cell(name: RuntimeName) -> SealReport:
    async with open_cell(CellConfig(runtime=name)) as cell:
        return await quick_seal(cell)


def _auto(working: list[str]) -> Finding:
    """Which runtime a run takes that names none; it need not be one that works here, if the environment names it."""
    state: State = "optional" if working else "missing"
    fix = f"name one that works: --runtime {working[0]}" if working else way_to_get(RECOMMENDED)
    try:
        name = choose_runtime("auto").name
    except UsageError as error:
        return Finding("--runtime auto", state, one_line(error), fix)
    if name not in working:
        return Finding("--runtime auto", state, f"takes {name}, which fails", fix)
    shared = f"; models that are no controls need --runtime {name} said outright"
    if traits_of(name).runs_models_by_default:
        shared = ""
    return Finding("--runtime auto", "ok", f"takes {name}{shared}")


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return Finding("cgroups", "ok", "version 2")
    if (root / "unified").exists():
        return Finding("cgroups", "ok", "hybrid: version 1 with the unified hierarchy beside it")
    if (root / "memory").exists():
        return Finding("cgroups", "ok", "version 1")
    return Finding(
        "cgroups", "optional", "none found", "without them memory and processor time of a cell are unbounded"
    )


def _user_namespaces() -> Iterator[Finding]:
    most = _number(Path("/proc/sys/user/max_user_namespaces"))
    if most == 0:
        yield Finding("user namespaces", "missing", "switched off", "sudo sysctl user.max_user_namespaces=15000")
        return
    yield Finding("user namespaces", "ok", "allowed" if most is None else f"at most {most}")
    if os.geteuid() == 0:
        yield Finding("subordinate ids", "ok", "not needed by root")
        return
    if _number(Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")):
        fix = "run as root, or: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        yield Finding("apparmor", "optional", "restricts user namespaces of this user", fix)
    if not shutil.which("newuidmap"):
        yield Finding("newuidmap", "missing", "not installed; cells without root need it", way_to_get("newuidmap"))
    yield _subordinate_ids()


def _subordinate_ids() -> Finding:
    try:
        counts = [len(own_subordinate_ids(file)) for file in (SUBUID, SUBGID)]
    except UsageError as error:
        fix = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {getpass.getuser()}"
        return Finding("subordinate ids", "missing", one_line(error), fix)
    return Finding("subordinate ids", "ok", f"{min(counts)} of users and of groups")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _calibration(runtime: str) -> Finding:
    from redline.run import kept_calibration

    what = f"calibration on {runtime}"
    kept = kept_calibration(runtime)
    if kept is None:
        return Finding(what, "optional", "none kept for this version", f"redline calibrate --runtime {runtime}")
    right = f"{kept.right} of {kept.trials} trials of controls judged right"
    return Finding(what, "ok", f"{kept.date:%Y-%m-%d %H:%M} UTC, {right}")


def _local() -> Finding:
    from redline.models.extra import COMMAND, PACKAGES, missing_packages

    missing = missing_packages()
    if missing:
        return Finding("models from GGUF files", "optional", f"{', '.join(missing)} not installed", COMMAND)
    return Finding("models from GGUF files", "ok", f"--model llama-cpp/PATH.gguf ({', '.join(PACKAGES)})")


def _chromium() -> Finding:
    from redline.report.pdf import find_browser

    program = find_browser()
    if program is None:
        return Finding("chromium", "optional", "not installed; reports as PDF need it", way_to_get("chromium"))
    try:
        said = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=TRY_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("chromium", "optional", f"does not start: {one_line(error)}", way_to_get("chromium"))
    return Finding("chromium", "ok", f"{said.stdout.strip()} ({program})")


def _room(what: str, free: int, least_gib: int, fix: str) -> Finding:
    found = f"{free / GIB:.1f} GiB free"
    return Finding(what, "ok", found) if free >= least_gib * GIB else Finding(what, "optional", found, fix)
