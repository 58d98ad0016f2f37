"""Gather the facts of both halves of the probes from a cell."""

import contextlib
import json
import os
import platform
import secrets
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio.to_thread

import redline
from redline._base import read_toml
from redline.cell.cell import Cell
from redline.cell.node import ProcessRef
from redline.cell.spec import TETHER_FOLDER
from redline.seal.bounds import cgroup_bounds
from redline.seal.canaries import Canaries, canary_folder, tree_hash
from redline.seal.declared import declared_mounts, declared_pids, scratch_mib
from redline.seal.facts import Facts
from redline.seal.programs.outside import describe, interfaces

TIMEOUT = 20.0
OUTPUT_LIMIT = 1 << 20
KINDS = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
QUICK_PARTS = ("quick",)
FULL_PARTS = ("quick", "network", "privilege", "files", "limits")
MAX_MEMORY_MIB = 256
"""The largest memory limit that the probe tries to exceed; a larger one is only read."""


async def gather(cell: Cell, node: str, guarded: Sequence[ProcessRef], *, full: bool) -> Facts:
    """Run both halves of the probes on a node and return their facts.

    Raises:
        CellError: The cell is gone or does not answer.
        OSError: A file of the host could not be read.
        TimeoutError: The probes took too long.
        ValueError: The inside half failed or gave no valid answer.
    """
    if not full:
        return await _measure(cell, node, guarded, {}, QUICK_PARTS)
    with _canaries(cell) as canaries:
        skeleton = await anyio.to_thread.run_sync(_skeleton_hash, cell, abandon_on_cancel=True)
        settings = {**canaries.task(), **_settings(cell), "guard": await _start_guard(cell, node)}
        facts = await _measure(cell, node, guarded, settings, FULL_PARTS)
        facts.outside.update(await anyio.to_thread.run_sync(canaries.findings, abandon_on_cancel=True))
        after = await anyio.to_thread.run_sync(_skeleton_hash, cell, abandon_on_cancel=True)
        facts.outside["skeleton"] = {"before": skeleton, "after": after}
        facts.outside.update(_expected(cell, node))
    return facts


async def _start_guard(cell: Cell, node: str) -> int:
    """Start a process that protects itself as generation 0 does. Return its pid inside; it ends with the cell."""
    done = await cell.exec([cell.interpreter, "-I", "-S", "-c", _program("guard")], node=node, timeout=TIMEOUT)
    return int(done.stdout)


async def _measure(
    cell: Cell, node: str, guarded: Sequence[ProcessRef], settings: dict[str, Any], parts: tuple[str, ...]
) -> Facts:
    """Take one process snapshot from outside and run one program inside."""
    outside, _ = await cell.run_with_cell_privileges(_program("outside"), {"node": node}, timeout=TIMEOUT, node=node)
    inside_pids = {int(pid): int(facts["NSpid"].split()[-1]) for pid, facts in outside["processes"].items()}
    task = {
        "nonce": secrets.token_hex(16),
        "syscalls": _syscalls(),
        "guarded": [
            *(inside_pids[process.pid] for process in guarded if process.pid in inside_pids),
            *([settings["guard"]] if "guard" in settings else []),
        ],
        "harness_pid": os.getpid(),
        "tether": TETHER_FOLDER,
        "scratch": {path: size << 20 for path, size in scratch_mib(cell.config).items()},
        "hidden": _hidden(cell),
        "parts": {name: _program(name) for name in parts},
        **settings,
    }
    program = _program("inside").replace('TASK = "{}"', f"TASK = {json.dumps(task)!r}", 1)
    if parts == QUICK_PARTS:
        done = await cell.run_text(program, node=node, timeout=TIMEOUT, output_limit=OUTPUT_LIMIT)
    else:  # the full set inspects a process that was started as the agent's commands are
        done = await cell.exec(
            [cell.interpreter, "-I", "-S", "-"],
            node=node,
            input=program.encode(),
            cwd="/",
            timeout=TIMEOUT,
            output_limit=OUTPUT_LIMIT,
        )
    if done.returncode != 0:
        raise ValueError(
            f"the inside half exited with status {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}"
        )
    inside = json.loads(done.stdout)
    if inside["nonce"] != task["nonce"]:
        raise ValueError("the inside half answered another request")
    return Facts(
        inside=inside["facts"],
        errors=inside["errors"],
        outside=outside,
        config=cell.config,
        host_namespaces={kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS},
        observer=cell.observer,
        sentry=_sentry(cell, node),
    )


def _skeleton_hash(cell: Cell) -> str:
    """Return the hash of the folder that is a cell's root; empty on Docker, whose image layers are read-only."""
    return "" if cell.traits.specification == "compose" else tree_hash(cell.harness.root)


def _sentry(cell: Cell, node: str) -> dict[str, Any] | None:
    """Return the process that is a cell's own kernel, as the host reports it; None if the cell shares the host's."""
    if not cell.traits.own_kernel:
        return None
    pid = cell.nodes[node].init_pid
    return {**describe(pid), "network": interfaces(pid)}


def _hidden(cell: Cell) -> list[str]:
    """Return the paths of the harness that no cell may see."""
    paths = [Path(redline.__file__).parent, cell.folder, cell.folder.parent.parent]
    spec = find_spec("inspect_ai")
    if spec is not None and spec.origin:
        paths.append(Path(spec.origin).parent)
    if sys.prefix != sys.base_prefix:
        paths.append(Path(sys.prefix))
    return [str(path) for path in paths]


@contextlib.contextmanager
def _canaries(cell: Cell) -> Iterator[Canaries]:
    canaries = Canaries(canary_folder(cell))
    try:
        yield canaries
    finally:
        canaries.close()


def _settings(cell: Cell) -> dict[str, Any]:
    """Return the settings of the full set's inside half."""
    data = _data()
    config = cell.config
    sizes = scratch_mib(config)
    smallest = min(sizes, key=lambda path: sizes[path])
    # The OOM killer would kill the kernel of a cell that has its own: there, the memory limit is only read.
    try_memory = config.memory_mib <= MAX_MEMORY_MIB and cell.observer == "outside" and not cell.rootless
    return {
        "kernel": data["kernel"],
        "hooks": data["hooks"],
        "packages": data["packages"],
        "network": data["network"],
        "forbidden_paths": sorted(set(data["forbidden_paths"]) - set(cell.traits.extra_files)),
        "bound": list(declared_mounts(cell, "default")["bound"]),
        "limits": {
            "pids": declared_pids(cell),
            "open_files": config.open_files,
            "cpus": config.cpus,
            "memory_mib": config.memory_mib,
            "try_memory": try_memory,
            "smallest": [smallest, sizes[smallest] << 20],
        },
    }


def _expected(cell: Cell, node: str) -> dict[str, Any]:
    """Return what the cell is declared to have, for the checks."""
    data = _data()
    pid = cell.nodes[node].init_pid
    present = [path for path in data["kernel"]["read_only"] if os.path.exists(path)]
    return {
        "declared_variables": data["variables"],
        "first_variables": data["first_variables"],
        "declared_pids": declared_pids(cell),
        "declared_devices": data["devices"],
        "hardware": data["hardware"],
        "read_only_kernel": present,
        "declared_mounts": declared_mounts(cell, node),
        "bounds": cgroup_bounds(pid),
        "spare_mib": cell.traits.spare_mib,
    }


@cache
def _program(name: str) -> str:
    return files("redline.seal").joinpath(f"programs/{name}.py").read_text()


@cache
def _syscalls() -> dict[str, int]:
    tables: dict[str, Any] = read_toml("redline.seal", "data/syscalls.toml")
    return dict(tables[platform.machine()])


@cache
def _data() -> dict[str, Any]:
    return read_toml("redline.seal", "data/settings.toml")
