"""Life and death, drilled: what a cell started is gone with it, a kill leaves nobody, and a cell ends with its lease.

Each drill makes cells of its own and returns None, or why the claim does not hold. What lives is counted from outside,
by control group and ids and state. Options are for the seal's own test, which has to see each drill fail.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import anyio
import anyio.to_thread

from redline._tasks import task_group
from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.footprint import Footprint
from redline.cell.open import open_cell

LEASE_SECONDS = 1.0
"""The lease of a drilled harness: long enough for a busy machine, short enough for the start of every run."""

LEASE_GRACE = 1.0
KILL_BOUND = 5.0
"""A kill may never take longer; what it takes on a quiet machine is a benchmark's business."""

WALL_SECONDS = (1, 6, 30)
"""The life of a cell that is drilled for it, and what it gets where that was too short for it to come up."""

WALL_GRACE = 10.0
"""An engine may take its time over a kill; what counts is that nobody has to ask for it."""

SMALL = {"home_mib": 8, "tmp_mib": 8, "var_tmp_mib": 4, "shm_mib": 4, "working_mib": 40}
"""A cell that is fast to fill."""

TOUCHED = 3
"""So many times the memory that is declared is touched: some runtimes count what is ours in the same bound."""

TOUCH = "import sys; room = bytearray(int(sys.argv[1])); room[::4096] = bytes(len(room[::4096])); sys.exit(0)"

SETTLE_SECONDS = 10.0
"""Seconds within which daemons or a storm have to be up."""

HARNESS_SECONDS = 60.0
"""Seconds within which a drilled harness has to have its cell: an engine may have others to make."""

HARNESS_TRIES = 3
"""Harnesses that are started before it is said that none comes up."""

SWEPT_SECONDS = 10.0
POLL_SECONDS = 0.01
SETTLED_SECONDS = 0.05
DAEMON_SECONDS = "86399"
"""By this argument the daemons of a drill are known."""

START_DAEMONS = f"""
setsid sleep {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 &
nohup sleep {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 &
( ( sleep {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 & ) & )
setsid sh -c 'kill -STOP $$; sleep 1' sh {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 &
"""
DAEMONS = 4

START_STORM = '(sleep 0.2; exec "$0" -I -S -c "$1") </dev/null >/dev/null 2>&1 &'

Order = Callable[[Cell], Awaitable[object]]
"""Something that is to end a cell."""


async def remove(cell: Cell) -> None:
    """The teardown of a trial's cell."""
    await cell.remove()


async def kill(cell: Cell) -> None:
    """The kill of a cell."""
    await cell.kill()


async def daemons_gone(config: CellConfig, teardown: Order = remove) -> str | None:
    """Probe 30: setsid, nohup and double-forked children do not outlive the cell."""
    async with open_cell(config) as cell:
        footprint = footprint_of(cell)
        await _leave_daemons(cell)
        await teardown(cell)
        left = footprint.left_over()
        return f"after the teardown there is still {', '.join(left)}" if left else None


async def kill_drill(config: CellConfig, order: Order = kill) -> str | None:
    """Probe 31: a kill under a fork storm, with stopped and setsid processes, leaves nobody."""
    async with open_cell(config) as cell:
        drilled = await kill_under_storm(cell, order)
        if drilled.survivors:
            return f"{drilled.survivors} of {drilled.processes} processes survived the kill"
        if drilled.seconds > KILL_BOUND:
            return f"the kill took {drilled.seconds:.1f} s; it is to take {KILL_BOUND:g} s at most"
        return None


async def bounds_drill(config: CellConfig, longer: int = 0) -> str | None:
    """Of probe 29: who touches more memory than a node may hold loses his life, and a cell that is too old is gone.

    Args:
        config: The shape of the cell; it gets little memory, so that it is soon filled.
        longer: Seconds that the cell may in truth live longer than it is held to, for the seal's own test.
    """
    fault: str | None = "no cell came up before it was too old"
    for seconds in WALL_SECONDS:
        try:
            fault = await _bounded(config.model_copy(update={**SMALL, "wall_seconds": seconds + longer}), seconds)
        except CellError:
            continue  # on a busy machine it was too old before it was up: it gets more time
        break
    return fault


async def _bounded(config: CellConfig, seconds: int) -> str | None:
    async with open_cell(config) as cell:
        footprint = footprint_of(cell)
        # Not tried where nothing bounds it, or where the bound is a kernel's which would go with it: there it is read.
        if not cell.rootless and not cell.traits.own_kernel:
            size = TOUCHED * config.memory_mib << 20
            command = [cell.interpreter, "-I", "-S", "-c", TOUCH, str(size)]
            if (await cell.exec(command, timeout=SETTLE_SECONDS)).returncode == 0:
                return f"{size} bytes could be touched of {config.memory_mib} MiB"
        with anyio.move_on_after(seconds + WALL_GRACE):
            while footprint.may_be_alive() or footprint.live_pids():
                await anyio.sleep(POLL_SECONDS)
            return None
        return f"a cell that may live for {seconds} s was there {WALL_GRACE:g} s later"


@dataclass(frozen=True)
class Drilled:
    """What one kill took."""

    processes: int
    seconds: float
    """From the order to the last process gone."""

    survivors: int


async def kill_under_storm(cell: Cell, order: Order = kill) -> Drilled:
    """Lets a fork storm fill a node and orders the kill in the midst of it.

    Raises:
        CellError: The storm did not come up, so that the kill would prove nothing.
    """
    footprint = footprint_of(cell)
    await _leave_daemons(cell)
    crowd = await _storm(cell, footprint)
    begun = time.perf_counter()
    with contextlib.suppress(CellError, OSError):  # it says that something survived; who did is counted here
        await order(cell)
    seconds = time.perf_counter() - begun
    return Drilled(crowd, seconds, len(footprint.live_pids()))


async def _storm(cell: Cell, footprint: Footprint) -> int:
    """Starts a fork storm and waits until it crowds the node, as seen from outside: inside it slows every look."""
    # Not by `spawn`, which looks for the process afterwards: where that is done inside, there would be no room for it.
    await cell.exec(["sh", "-c", START_STORM, cell.interpreter, _program("fork_storm")], timeout=SETTLE_SECONDS)
    with anyio.move_on_after(SETTLE_SECONDS):
        while (crowd := footprint.count()) < cell.config.pids // 2:
            await anyio.sleep(POLL_SECONDS)
        return crowd
    raise CellError("the fork storm of the drill did not come up")


async def lease_drill(config: CellConfig, lease_seconds: float = LEASE_SECONDS) -> str | None:
    """Probe 32: the cells of a harness that is stopped or killed are gone within the lease.

    Args:
        config: The shape of the cells.
        lease_seconds: The lease that the wardens get; the cells are held to `LEASE_SECONDS` whatever it is.
    """
    ends = (signal.SIGSTOP, signal.SIGKILL)
    reasons: dict[str, str] = {}

    async def drill(number: signal.Signals, harness: "DrilledHarness") -> None:
        reason = await end_harness(harness, number, LEASE_SECONDS + LEASE_GRACE)
        if reason is not None:
            reasons[number.name] = reason

    async with harnesses_with_cells(config, len(ends), lease_seconds) as made, task_group() as tasks:
        for number, harness in zip(ends, made, strict=True):
            tasks.start_soon(drill, number, harness)
    return "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items())) or None


@dataclass(frozen=True)
class DrilledHarness:
    """A harness of another process, with a cell in which daemons run."""

    pid: int
    footprint: Footprint
    """What the machine knows its cell by."""

    folder: Path
    """The cell's folder."""


async def end_harness(harness: DrilledHarness, number: signal.Signals, bound: float) -> str | None:
    """Stops or kills a harness and says what is wrong with how its cell ends, None where nothing is."""
    footprint, folder = harness.footprint, harness.folder
    begun = time.perf_counter()
    os.kill(harness.pid, number)
    while footprint.may_be_alive() or footprint.live_pids():
        if time.perf_counter() - begun > bound:
            return f"{len(footprint.live_pids())} processes of the cell live {bound:g} s after their harness"
        await anyio.sleep(POLL_SECONDS)
    with anyio.move_on_after(SWEPT_SECONDS):
        while folder.exists() or footprint.left_over():
            await anyio.sleep(POLL_SECONDS)
    left = [*footprint.left_over(), *([f"folder {folder}"] if folder.exists() else [])]
    return f"of the cell there is still {', '.join(left)}" if left else None


@asynccontextmanager
async def harnesses_with_cells(
    config: CellConfig, count: int = 1, lease_seconds: float = LEASE_SECONDS
) -> AsyncIterator[list[DrilledHarness]]:
    """Harnesses of other processes, each with a cell in which daemons run. Killed and reaped afterwards.

    Raises:
        CellError: One did not come up.
    """
    command = [sys.executable, "-m", "redline.seal.drilled_harness"]
    command += [config.model_dump_json(), str(lease_seconds), str(count)]
    for attempt in range(HARNESS_TRIES):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            made = await _that_came_up(process, count)
            if len(made) == count:
                yield made
                return
            # On a machine at work a cell can outlive its short lease before it is made: no fault of the lease's.
            if attempt == HARNESS_TRIES - 1:
                raise CellError("the harness of the drill did not come up")
        finally:
            await _end(process)


async def _that_came_up(process: "subprocess.Popen[bytes]", count: int) -> list[DrilledHarness]:
    """The harnesses of a process that said where their cells are, in the time that they have for it."""
    assert process.stdout is not None
    made: list[DrilledHarness] = []
    with anyio.move_on_after(HARNESS_SECONDS):
        async for line in _lines(process.stdout.fileno()):
            where = json.loads(line)
            footprint = Footprint.of(where["inits"], os.geteuid())
            made.append(DrilledHarness(where["pid"], footprint, Path(where["folder"])))
            if len(made) == count:
                break
    return made


async def _lines(fd: int) -> AsyncIterator[bytes]:
    """The lines of a pipe as they come. A thread that waits for one could not be ended by the time that it has."""
    os.set_blocking(fd, False)
    data = b""
    while True:
        await anyio.wait_readable(fd)
        part = os.read(fd, 1 << 16)
        if not part:
            return
        *lines, data = (data + part).split(b"\n")
        for line in lines:
            yield line


async def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process, and with it, by their parent's death, those that it has started."""
    process.kill()
    with anyio.CancelScope(shield=True), suppress(subprocess.TimeoutExpired):
        await anyio.to_thread.run_sync(process.wait, KILL_BOUND, abandon_on_cancel=True)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def footprint_of(cell: Cell) -> Footprint:
    """What the machine knows a cell by.

    Raises:
        CellGoneError: Its first processes ended before they could be asked.
    """
    try:
        return Footprint.of([node.init_pid for node in cell.nodes.values()], os.geteuid())
    except OSError as error:
        raise CellGoneError(f"the cell ended before it was known what it leaves: {error}") from error


async def _leave_daemons(cell: Cell) -> None:
    """Starts daemons in all the ways that detach one, and one that is stopped.

    Raises:
        CellError: They did not start, so that their absence would prove nothing.
    """
    await cell.exec(["sh", "-c", START_DAEMONS], timeout=SETTLE_SECONDS)
    with anyio.move_on_after(SETTLE_SECONDS):
        while True:
            tally, _ = await cell.run_with_cell_privileges(
                _program("tally"), {"word": DAEMON_SECONDS}, timeout=SETTLE_SECONDS
            )
            if tally["named"] >= DAEMONS and tally["stopped"]:
                return
            await anyio.sleep(SETTLED_SECONDS)
    raise CellError("the daemons that were to be left behind did not start")


@cache
def _program(name: str) -> str:
    return files("redline.seal").joinpath(f"programs/{name}.py").read_text()
