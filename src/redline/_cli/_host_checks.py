"""The checks of `redline doctor`. They change nothing on the host and remove every cell that they start."""

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
from redline._cli._finding import Finding, State
from redline._cli._model_checks import model_servers
from redline._errors import RedlineError, UsageError
from redline._names import one_line
from redline.cell import CellConfig, open_cell
from redline.cell.config import RuntimeName
from redline.cell.known_errors import named_error
from redline.cell.open import RECOMMENDED, choose_runtime, every_runtime, traits_of, unusable
from redline.cell.runtime import Runtime
from redline.cell.state import SUBGID, SUBUID, own_subordinate_ids
from redline.seal import SealReport, quick_seal

PYTHONS = ((3, 11), (3, 13))
MIN_FREE_DISK_GIB = 2
MIN_FREE_MEMORY_GIB = 2
GIB = 2**30
TRY_SECONDS = 20


def check_host() -> Iterator[Finding]:
    """Check every prerequisite of a run, required and optional."""
    yield _system()
    yield _python()
    cells = [_cell(found) for kind in every_runtime() if (found := kind.find()) is not None]
    working = [finding.what.removeprefix(A_CELL) for finding in cells if finding.state == "ok"]
    for kind in every_runtime():
        yield _runtime(kind)
    for finding in cells:
        yield _given_working(finding, working)
    if not working:
        yield Finding(
            "cells", "missing", "no runtime can start a sealed cell on this host", install_command(RECOMMENDED)
        )
    yield _cgroups()
    for finding in _user_namespaces():
        yield _given_working(finding, working)
    yield _auto(working)
    for name in working:
        yield _calibration(name)
    yield from model_servers()
    yield _local()
    yield _chromium()
    yield _space(
        "disk",
        psutil.disk_usage(str(Path.cwd())).free,
        MIN_FREE_DISK_GIB,
        "choose an --out folder on a file system with more space",
    )
    yield _space("memory", psutil.virtual_memory().available, MIN_FREE_MEMORY_GIB, "run with --cells 1")


def install_command(name: str) -> str:
    """Return the command that installs a program on this host."""
    for tool, theirs in read_toml("redline._cli", "packages.toml").items():
        if name in theirs and shutil.which(tool):
            return f"{theirs['install']} {theirs[name]}"
    known = {kind.traits.name: kind.traits.how_to_install for kind in every_runtime()}
    return known.get(name, f"install {name} with the system's package manager")


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform != "linux":
        return Finding("system", "missing", found, "cells require Linux; use a Linux host or virtual machine")
    return Finding("system", "ok", found)


def _python() -> Finding:
    first, last = (".".join(map(str, version)) for version in PYTHONS)
    found = f"{platform.python_version()} ({sys.executable})"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("python", "ok", found)
    return Finding("python", "missing", found, f"create the virtual environment with Python {first} to {last}")


def _runtime(kind: type[Runtime]) -> Finding:
    found, name = kind.find(), kind.traits.name
    if found is None:
        return Finding(name, "optional", "not installed", install_command(name))
    return Finding(name, "ok", f"{found.version} ({found.program})")


A_CELL = "a cell on "


def _cell(runtime: Runtime) -> Finding:
    what = f"{A_CELL}{runtime.name}"
    reason = unusable(runtime)
    if reason is not None:
        return Finding(what, "optional", f"cannot start: {reason}")
    try:
        report = anyio.run(_try_cell, runtime.name)
    except (RedlineError, OSError, TimeoutError) as error:
        return Finding(what, "missing", f"failed to start: {one_line(error)}", "see user namespaces and cgroups below")
    if not report.verified:
        return Finding(what, "missing", report.summary(), f"redline seal --runtime {runtime.name}")
    notes = f"; {'; '.join(report.notes)}" if report.notes else ""
    return Finding(what, "ok", f"started, probed and removed; {report.summary()}{notes}")


def _given_working(finding: Finding, working: list[str]) -> Finding:
    """Return the finding with its severity given the runtimes that work; one working runtime is enough."""
    if finding.state == "ok" or not working:
        return finding
    fix = f"use --runtime {working[0]}" + (f"; {finding.fix}" if finding.fix else "")
    return replace(finding, state="optional", fix=fix)


async def _try_cell(name: RuntimeName) -> SealReport:
    async with open_cell(CellConfig(runtime=name)) as cell:
        return await quick_seal(cell)


def _auto(working: list[str]) -> Finding:
    """Check the default runtime, which may fail if an environment variable selects it."""
    state: State = "optional" if working else "missing"
    fix = f"use a runtime that works: --runtime {working[0]}" if working else install_command(RECOMMENDED)
    try:
        name = choose_runtime("auto").name
    except UsageError as error:
        return Finding("--runtime auto", state, one_line(error), fix)
    if name not in working:
        return Finding("--runtime auto", state, f"selects {name}, which fails", fix)
    shared = f"; models other than controls need an explicit --runtime {name}"
    if traits_of(name).runs_models_by_default:
        shared = ""
    return Finding("--runtime auto", "ok", f"selects {name}{shared}")


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return Finding("cgroups", "ok", "version 2")
    if (root / "unified").exists():
        return Finding("cgroups", "ok", "hybrid: version 1 together with the unified hierarchy")
    if (root / "memory").exists():
        return Finding("cgroups", "ok", "version 1")
    return Finding(
        "cgroups",
        "optional",
        "none found",
        "enable cgroups; without them, a cell's memory and CPU time are not limited",
    )


def _user_namespaces() -> Iterator[Finding]:
    limit = _number(Path("/proc/sys/user/max_user_namespaces"))
    if limit == 0:
        yield Finding("user namespaces", "missing", "disabled", "sudo sysctl user.max_user_namespaces=15000")
        return
    yield Finding("user namespaces", "ok", "allowed" if limit is None else f"at most {limit}")
    if os.geteuid() == 0:
        yield Finding("subordinate ids", "ok", "not needed for root")
        return
    if _number(Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")):
        fix = "run as root, or run: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        yield Finding("apparmor", "optional", "restricts user namespaces for this user", fix)
    if not shutil.which("newuidmap"):
        yield Finding(
            "newuidmap", "missing", "not installed; required to run cells without root", install_command("newuidmap")
        )
    yield _subordinate_ids()
    yield from _hidden_processes()


def _hidden_processes() -> Iterator[Finding]:
    """Check whether this user sees the processes that it starts in a cell; a runtime needs that for a second node."""
    mounts = [part.opts.split(",") for part in psutil.disk_partitions(all=True) if part.mountpoint == "/proc"]
    options = dict(option.partition("=")[::2] for option in mounts[-1]) if mounts else {}
    groups = {str(group) for group in (os.getegid(), *os.getgroups())}
    # `gid=` names the group that sees all processes; the kernel does not show the default, which is root's.
    if options.get("hidepid") in ("2", "invisible") and options.get("gid", "0") not in groups:
        known = named_error("hidden processes")
        yield Finding("/proc", "optional", f"scenarios with a second node cannot run: {known.wrong}", known.fix)


def _subordinate_ids() -> Finding:
    try:
        counts = [len(own_subordinate_ids(file)) for file in (SUBUID, SUBGID)]
    except UsageError as error:
        fix = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {getpass.getuser()}"
        return Finding("subordinate ids", "missing", one_line(error), fix)
    return Finding("subordinate ids", "ok", f"{min(counts)} for users and groups")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _calibration(runtime: str) -> Finding:
    from redline.run import kept_calibration

    what = f"calibration on {runtime}"
    stored = kept_calibration(runtime)
    if stored is None:
        return Finding(what, "optional", "none stored for this version", f"redline calibrate --runtime {runtime}")
    correct = f"{stored.right} of {stored.trials} control trials judged correctly"
    return Finding(what, "ok", f"{stored.date:%Y-%m-%d %H:%M} UTC, {correct}")


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
        return Finding("chromium", "optional", "not installed; required for PDF reports", install_command("chromium"))
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=TRY_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("chromium", "optional", f"fails to start: {one_line(error)}", install_command("chromium"))
    return Finding("chromium", "ok", f"{done.stdout.strip()} ({program})")


def _space(what: str, free: int, min_gib: int, fix: str) -> Finding:
    found = f"{free / GIB:.1f} GiB free"
    return Finding(what, "ok", found) if free >= min_gib * GIB else Finding(what, "optional", found, fix)
