"""The quick seal: the probes that gate every trial, in one command inside and one look from outside."""

import json
import os
import platform
import secrets
import time
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import redline
from redline.cell.cell import Cell, ProcessRef
from redline.cell.errors import CellError
from redline.cell.seal.probes import QUICK, Facts
from redline.cell.seal.report import Finding, SealReport
from redline.cell.spec import HOME, TETHER_FOLDER

TIMEOUT = 10.0
OUTPUT_LIMIT = 1 << 20
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm", HOME)


async def quick_seal(cell: Cell, *, host: str = "default", guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Measures the seal of one host as the agent would meet it.

    Args:
        cell: The cell.
        host: The host to probe.
        guarded: Processes whose memory the agent must not be able to open.

    Returns:
        What passed and what failed. Nothing is raised for a cell that is gone or lies: such a seal is not proved.
    """
    begun = time.perf_counter()
    try:
        facts = await _gather(cell, host, guarded)
    except (CellError, OSError, TimeoutError, ValueError) as error:
        facts = Facts(errors={"": f"the probes did not run: {error}"})
    passed, failed = [], []
    for probe in QUICK:
        reason = probe.judge(facts)
        if reason is None:
            passed.append(probe.name)
        else:
            failed.append(Finding(number=probe.number, name=probe.name, reason=reason))
    return SealReport(
        verified=not failed,
        profile="quick",
        runtime=cell.runtime,
        observer=cell.observer,
        passed=tuple(passed),
        failed=tuple(failed),
        notes=unbounded(cell),
        seconds=time.perf_counter() - begun,
    )


async def quick_seal_of_all(cell: Cell, *, guarded: Sequence[ProcessRef] = ()) -> SealReport:
    """Measures the seal of every host of a cell.

    Args:
        cell: The cell.
        guarded: Processes whose memory the agent must not be able to open, on whichever host.

    Returns:
        The report of the first host whose seal is not proved; of the first host where all are.
    """
    reports = [await quick_seal(cell, host=host, guarded=guarded) for host in cell.hosts]
    return next((report for report in reports if not report.verified), reports[0])


def unbounded(cell: Cell) -> tuple[str, ...]:
    """Bounds that a cell of this kind does not have."""
    if not cell.rootless:
        return ()
    return ("rootless: no cgroup bounds memory and processor time; temporary file systems and process limits do bite",)


async def _gather(cell: Cell, host: str, guarded: Sequence[ProcessRef]) -> Facts:
    outside, _ = await cell.joined(_program("seal_outside"), {"host": host}, timeout=TIMEOUT)
    inside_pids = {int(pid): int(facts["NSpid"].split()[-1]) for pid, facts in outside["processes"].items()}
    task = {
        "nonce": secrets.token_hex(16),
        "syscalls": _syscalls(),
        "guarded": [inside_pids[process.pid] for process in guarded if process.pid in inside_pids],
        "harness_pid": os.getpid(),
        "tether": TETHER_FOLDER,
        "scratch": SCRATCH,
        "hidden": [str(Path(redline.__file__).parent), str(cell.folder)],
    }
    program = _program("seal_inside").replace('TASK = "{}"', f"TASK = {json.dumps(task)!r}", 1)
    done = await cell.exec(
        [cell.interpreter, "-I", "-S", "-"],
        host=host,
        input=program.encode(),
        cwd="/",
        timeout=TIMEOUT,
        output_limit=OUTPUT_LIMIT,
    )
    if done.returncode != 0:
        raise ValueError(
            f"the inside half ended with code {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}"
        )
    inside = json.loads(done.stdout)
    if inside["nonce"] != task["nonce"]:
        raise ValueError("the inside half did not answer to its nonce")
    return Facts(
        inside=inside["facts"],
        errors=inside["errors"],
        outside=outside,
        config=cell.config,
        machine=_machine_namespaces(),
    )


@cache
def _program(name: str) -> str:
    return files("redline.cell").joinpath(f"programs/{name}.py").read_text()


@cache
def _syscalls() -> dict[str, int]:
    tables: dict[str, Any] = tomllib.loads(files("redline.cell").joinpath("data/syscalls.toml").read_text())
    return dict(tables[platform.machine()])


def _machine_namespaces() -> dict[str, str]:
    return {
        kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
    }
