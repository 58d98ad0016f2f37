"""Gathers the facts of both halves of the probes from a cell."""

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
from redline.cell.cell import Cell, ProcessRef
from redline.cell.spec import TETHER_FOLDER
from redline.seal.bounds import cgroup_bounds
from redline.seal.declared import declared_mounts, declared_pids, scratch_mib
from redline.seal.facts import Facts
from redline.seal.planted import Planted, planted_folder, tree_hash
from redline.seal.programs.outside import describe, interfaces

TIMEOUT = 20.0
OUTPUT_LIMIT = 1 << 20
KINDS = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
QUICK_PARTS = ("quick",)
FULL_PARTS = ("quick", "network", "privilege", "files", "limits")
MAX_MEMORY_MIB = 256
"""Up to this bound it is tried whether more memory can be touched; a larger one is only read."""


async def gather(cell: Cell, node: str, guarded: Sequence[ProcessRef], *, full: bool) -> Facts:
    """Has both halves look at a node.

    Raises:
        CellError: The cell is gone or does not answer.
        OSError: Something could not be looked at.
        TimeoutError: It took too long.
        ValueError: The inside half did not say what it must.
    """
    if not full:
        return await _measure(cell, node, guarded, {}, QUICK_PARTS)
    with _planted(cell) as planted:
        skeleton = await anyio.to_thread.run_sync(_skeleton_hash, cell, abandon_on_cancel=True)
        settings = {**planted.task(), **_settings(cell), "guard": await _start_guard(cell, node)}
        facts = await _measure(cell, node, guarded, settings, FULL_PARTS)
        facts.outside.update(await anyio.to_thread.run_sync(planted.findings, abandon_on_cancel=True))
        after = await anyio.to_thread.run_sync(_skeleton_hash, cell, abandon_on_cancel=True)
        facts.outside["skeleton"] = {"before": skeleton, "after": after}
        facts.outside.update(_expected(cell, node))
    return facts


GUARD = """
import ctypes, os
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE, which a fork inherits
child = os.fork()
if child == 0:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    while True:
        os.read(os.pipe()[0], 1)
print(child)
"""
"""A process that guards itself as generation 0 does, for a cell in which there is none yet."""


async def _start_guard(cell: Cell, node: str) -> int:
    """Starts it; returns its pid inside. It ends with the cell."""
    done = await cell.exec([cell.interpreter, "-I", "-S", "-c", GUARD], node=node, timeout=TIMEOUT)
    return int(done.stdout)


async def _measure(
    cell: Cell, node: str, guarded: Sequence[ProcessRef], settings: dict[str, Any], parts: tuple[str, ...]
) -> Facts:
    """One look from outside and one command inside."""
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
        "scratch": {place: size << 20 for place, size in scratch_mib(cell.config).items()},
        "hidden": _hidden(cell),
        "parts": {name: _program(name) for name in parts},
        **settings,
    }
    program = _program("inside").replace('TASK = "{}"', f"TASK = {json.dumps(task)!r}", 1)
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
        machine={kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS},
        observer=cell.observer,
        sentry=_sentry(cell, node),
    )


def _skeleton_hash(cell: Cell) -> str:
    """Hash of the folder that is a cell's root; a Docker cell's is the engine's, of layers that nobody can write."""
    return "" if cell.traits.specification == "compose" else tree_hash(cell.harness.root)


def _sentry(cell: Cell, node: str) -> dict[str, Any] | None:
    """The machine's word on the process that is a cell's own kernel, None where a cell has none."""
    if not cell.traits.own_kernel:
        return None
    pid = cell.nodes[node].init_pid
    return {**describe(pid), "network": interfaces(pid)}


def _hidden(cell: Cell) -> list[str]:
    """Places of the harness that no cell may see."""
    places = [Path(redline.__file__).parent, cell.folder, cell.folder.parent.parent]
    spec = find_spec("inspect_ai")
    if spec is not None and spec.origin:
        places.append(Path(spec.origin).parent)
    if sys.prefix != sys.base_prefix:
        places.append(Path(sys.prefix))
    return [str(place) for place in places]


@contextlib.contextmanager
def _planted(cell: Cell) -> Iterator[Planted]:
    planted = Planted(planted_folder(cell))
    try:
        yield planted
    finally:
        planted.close()


def _settings(cell: Cell) -> dict[str, Any]:
    """What the full set's inside half is told beside."""
    data = _data()
    config = cell.config
    sizes = scratch_mib(config)
    smallest = min(sizes, key=lambda place: sizes[place])
    # A cell with a kernel of its own would lose that kernel: its memory is only read.
    try_memory = config.memory_mib <= MAX_MEMORY_MIB and cell.observer == "outside" and not cell.rootless
    return {
        "kernel": data["kernel"],
        "hooks": data["hooks"],
        "packages": data["packages"],
        "network": data["network"],
        "never_here": sorted(set(data["never_here"]) - set(cell.traits.extra_files)),
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
    """What was declared, for the judgements."""
    data = _data()
    pid = cell.nodes[node].init_pid
    there = [path for path in data["kernel"]["read_only"] if os.path.exists(path)]
    return {
        "declared_variables": data["variables"],
        "first_variables": data["first_variables"],
        "declared_pids": declared_pids(cell),
        "declared_devices": data["devices"],
        "hardware": data["hardware"],
        "read_only_kernel": there,
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
