"""Probe 26: two cells share nothing through which one could reach the other."""

import json
import os
import secrets
from contextlib import AsyncExitStack
from functools import cache
from importlib.resources import files
from typing import Any

from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import CellConfig
from redline.cell.footprint import Footprint
from redline.cell.open import open_cell

TIMEOUT = 20.0
FIRST_PORT, LAST_PORT = 20_000, 30_000


async def cells_apart(config: CellConfig, patch: SpecPatch | None = None) -> str | None:
    """Open two cells, leave traces in one and search for them in the other.

    Args:
        config: Configuration of the cells.
        patch: Changes the cells; used by the self-test.

    Returns:
        What the cells share, None if they share nothing.
    """
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(open_cell(config, patch))
        other = await stack.enter_async_context(open_cell(config, patch))
        return _shared_outside(one, other) or await _shared_inside(one, other)


async def _shared_inside(one: Cell, other: Cell) -> str | None:
    nonce = secrets.token_hex(16)
    task = {
        "nonce": nonce,
        "port": FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT),
        "key": secrets.randbelow(1 << 30) + 1,
        "socket": f"/tmp/{nonce}.sock",
    }
    left = await _run_inside(one, {**task, "role": "leave"})
    if not left["folders"]:
        return "no trace could be left in a cell, so the probe shows nothing"
    # A trace that its own cell cannot find would not be found in the other cell either.
    at_home = set((await _run_inside(one, {**task, "role": "search"}))["found"])
    missing = {"TCP", "UDP", "an abstract socket", "a unix socket", "a file"} - at_home
    if missing:
        return f"not found in the cell that left it: {', '.join(sorted(missing))}"
    found = (await _run_inside(other, {**task, "role": "search"}))["found"]
    return f"another cell was reached by {', '.join(found)}" if found else None


def _shared_outside(one: Cell, other: Cell) -> str | None:
    """Compare namespaces, user ids, cgroups and tether folders as the host sees them."""
    first, second = one.nodes["default"], other.nodes["default"]
    if not (first.init_pid and second.init_pid):
        return None  # the engine runs on another host: only the inside half can be used
    for kind in one.traits.private_namespaces:
        if _namespace(first.init_pid, kind) == _namespace(second.init_pid, kind):
            return f"two cells share a {kind} namespace"
    prints = [Footprint.of([node.init_pid for node in cell.nodes.values()], os.geteuid()) for cell in (one, other)]
    if set(prints[0].cgroups) & set(prints[1].cgroups):
        return "two cells share a cgroup"
    if any(ids.start < others.stop and others.start < ids.stop for ids in prints[0].ids for others in prints[1].ids):
        return "two cells share user ids"
    return "two cells share a tether" if os.path.samefile(first.tether_dir, second.tether_dir) else None


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


async def _run_inside(cell: Cell, task: dict[str, object]) -> dict[str, Any]:
    """Run the inside half in a cell.

    Raises:
        ValueError: It failed, or its answer is not the answer to this request.
    """
    nonce = secrets.token_hex(16)
    program = _program().replace('TASK = "{}"', f"TASK = {json.dumps({**task, 'request': nonce})!r}", 1)
    done = await cell.exec(
        [cell.interpreter, "-I", "-S", "-"], input=program.encode(), cwd="/", timeout=TIMEOUT, output_limit=1 << 16
    )
    if done.returncode != 0:
        raise ValueError(f"the inside half exited with status {done.returncode}: {done.stderr[-300:].decode()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["request"] != nonce:
        raise ValueError("the inside half answered another request")
    return answer


@cache
def _program() -> str:
    return files("redline.seal").joinpath("programs/apart.py").read_text()
