"""Probe 26: two cells have nothing in common by which one could reach the other."""

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
    """Opens two cells, leaves things in the one and looks for them in the other.

    Args:
        config: The shape of the cells.
        patch: Changes the cells, for the seal's own test.

    Returns:
        What they have in common, None where it is nothing.
    """
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(open_cell(config, patch))
        other = await stack.enter_async_context(open_cell(config, patch))
        return _common_outside(one, other) or await _common_inside(one, other)


async def _common_inside(one: Cell, other: Cell) -> str | None:
    nonce = secrets.token_hex(16)
    task = {
        "nonce": nonce,
        "port": FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT),
        "key": secrets.randbelow(1 << 30) + 1,
        "socket": f"/tmp/{nonce}.sock",
    }
    left = await _ask(one, {**task, "role": "leave"})
    if not left["places"]:
        return "nothing could be left in a cell, so nothing is shown"
    # What cannot be found where it was left cannot be missed elsewhere.
    at_home = set((await _ask(one, {**task, "role": "look"}))["found"])
    missing = {"TCP", "UDP", "an abstract socket", "a unix socket", "a file"} - at_home
    if missing:
        return f"not found where it was left: {', '.join(sorted(missing))}"
    found = (await _ask(other, {**task, "role": "look"}))["found"]
    return f"another cell was reached by {', '.join(found)}" if found else None


def _common_outside(one: Cell, other: Cell) -> str | None:
    """The machine's word: namespaces, ids, control groups and the folder of the tether."""
    first, second = one.nodes["default"], other.nodes["default"]
    if not (first.init_pid and second.init_pid):
        return None  # an engine on another machine, which is asked from inside alone
    for kind in one.traits.private_namespaces:
        if _namespace(first.init_pid, kind) == _namespace(second.init_pid, kind):
            return f"two cells share a {kind} namespace"
    prints = [Footprint.of([node.init_pid for node in cell.nodes.values()], os.geteuid()) for cell in (one, other)]
    if set(prints[0].cgroups) & set(prints[1].cgroups):
        return "two cells share a control group"
    if any(ids.start < others.stop and others.start < ids.stop for ids in prints[0].ids for others in prints[1].ids):
        return "two cells share user ids"
    return "two cells share a tether" if os.path.samefile(first.tether_dir, second.tether_dir) else None


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


async def _ask(cell: Cell, task: dict[str, object]) -> dict[str, Any]:
    """Runs the inside half.

    Raises:
        ValueError: It did not answer.
    """
    question = secrets.token_hex(16)
    program = _program().replace('TASK = "{}"', f"TASK = {json.dumps({**task, 'question': question})!r}", 1)
    done = await cell.exec(
        [cell.interpreter, "-I", "-S", "-"], input=program.encode(), cwd="/", timeout=TIMEOUT, output_limit=1 << 16
    )
    if done.returncode != 0:
        raise ValueError(f"the inside half ended with code {done.returncode}: {done.stderr[-300:].decode()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["asked"] != question:
        raise ValueError("the inside half did not answer to its question")
    return answer


@cache
def _program() -> str:
    return files("redline.seal").joinpath("programs/apart.py").read_text()
