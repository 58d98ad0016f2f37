"""Drills of a cell's end: nothing outlives a teardown, a kill leaves no process, and a cell ends with its lease.

Each drill makes its own cells and returns None, or why the claim does not hold. Processes are counted from outside, by
cgroup, user ids and state. The optional parameters are for the self-test, which makes each drill fail.
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
"""The lease of a drilled harness: long enough for a busy host, short enough for the start of every run."""

LEASE_GRACE = 1.0
KILL_BOUND = 5.0
"""Maximum duration of a kill on any host; the benchmarks measure it on an idle one."""

WALL_SECONDS = (1, 6, 30)
"""Time limits to try for the cell of this drill: the next one if the cell did not start within the last."""

WALL_GRACE = 10.0
"""Time that an engine may take over a kill; the drill shows only that the kill happens by itself."""

SMALL = {"home_mib": 8, "tmp_mib": 8, "var_tmp_mib": 4, "shm_mib": 4, "working_mib": 40}
"""A cell that is fast to fill."""

OVERUSE = 3
"""Multiple of the declared memory to allocate: some runtimes count redline's own processes in the same limit."""

SETTLE_SECONDS = 10.0
"""Time within which daemons or a fork storm must be running."""

HARNESS_SECONDS = 60.0
"""Time within which a drilled harness must have its cells: an engine may be busy with others."""

HARNESS_TRIES = 3
"""How often to start a harness before giving up."""

SWEPT_SECONDS = 10.0
POLL_SECONDS = 0.01
SETTLED_SECONDS = 0.05
DAEMON_SECONDS = "86399"
"""The argument that identifies the daemons of a drill."""

START_DAEMONS = f"""
setsid sleep {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 &
nohup sleep {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 &
( ( sleep {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 & ) & )
setsid sh -c 'kill -STOP $$; sleep 1' sh {DAEMON_SECONDS} </dev/null >/dev/null 2>&1 &
"""
DAEMONS = 4

START_STORM = '(sleep 0.2; exec "$0" -I -S -c "$1") </dev/null >/dev/null 2>&1 &'

Order = Callable[[Cell], Awaitable[object]]
"""An operation that must end a cell."""


async def remove(cell: Cell) -> None:
    """Tear the cell down, as at the end of a trial."""
    await cell.remove()


async def kill(cell: Cell) -> None:
    """Kill the cell."""
    await cell.kill()


async def daemons_gone(config: CellConfig, teardown: Order = remove) -> str | None:
    """Probe 30: setsid, nohup and double-forked children do not outlive the cell."""
    async with open_cell(config) as cell:
        footprint = footprint_of(cell)
        await _leave_daemons(cell)
        await teardown(cell)
        left = footprint.left_over()
        return f"left after the teardown: {', '.join(left)}" if left else None


async def kill_drill(config: CellConfig, order: Order = kill) -> str | None:
    """Probe 31: a kill during a fork storm, with stopped and setsid processes, leaves no process."""
    async with open_cell(config) as cell:
        drilled = await kill_under_storm(cell, order)
        if drilled.survivors:
            return f"{drilled.survivors} of {drilled.processes} processes survived the kill"
        if drilled.seconds > KILL_BOUND:
            return f"the kill took {drilled.seconds:.1f} s (maximum: {KILL_BOUND:g} s)"
        return None


async def bounds_drill(config: CellConfig, longer: int = 0) -> str | None:
    """Part of probe 29: a process that exceeds the memory limit is killed, and so is a cell at its time limit.

    Args:
        config: Configuration of the cell; its memory is reduced, so that it is soon full.
        longer: Seconds by which the cell's real time limit exceeds the one that is checked; used by the self-test.
    """
    fault: str | None = "no cell started within its time limit"
    for seconds in WALL_SECONDS:
        try:
            fault = await _bounded(config.model_copy(update={**SMALL, "wall_seconds": seconds + longer}), seconds)
        except CellError:
            continue  # on a busy host the limit can end a cell before it has started
        break
    return fault


async def _bounded(config: CellConfig, seconds: int) -> str | None:
    async with open_cell(config) as cell:
        footprint = footprint_of(cell)
        # Rootless cells have no such limit, and gVisor's kernel would be killed with the process: there, the outside
        # half only reads the limit.
        if not cell.rootless and not cell.traits.own_kernel:
            size = OVERUSE * config.memory_mib << 20
            command = [cell.interpreter, "-I", "-S", "-c", _program("touch_memory"), str(size)]
            if (await cell.exec(command, timeout=SETTLE_SECONDS)).returncode == 0:
                return f"{size} bytes could be allocated (limit: {config.memory_mib} MiB)"
        with anyio.move_on_after(seconds + WALL_GRACE):
            while footprint.may_be_alive() or footprint.live_pids():
                await anyio.sleep(POLL_SECONDS)
            return None
        return f"a cell with a time limit of {seconds} s was still running {WALL_GRACE:g} s after it"


@dataclass(frozen=True)
class Drilled:
    """The measurement of one kill."""

    processes: int
    """Processes at the time of the kill."""

    seconds: float
    """Time from the kill to the end of the last process."""

    survivors: int
    """Processes that still ran afterwards."""


async def kill_under_storm(cell: Cell, order: Order = kill) -> Drilled:
    """Fill a node with a fork storm and kill the cell during it.

    Raises:
        CellError: The storm did not start, so the kill would prove nothing.
    """
    footprint = footprint_of(cell)
    await _leave_daemons(cell)
    crowd = await _storm(cell, footprint)
    begun = time.perf_counter()
    with contextlib.suppress(CellError, OSError):  # raised if a process survives; the survivors are counted below
        await order(cell)
    seconds = time.perf_counter() - begun
    return Drilled(crowd, seconds, len(footprint.live_pids()))


async def _storm(cell: Cell, footprint: Footprint) -> int:
    """Start a fork storm and wait until it fills half of the node, counted from outside: inside, the storm slows it."""
    # `spawn` would look up the process afterwards, possibly inside the node, where no further process can start.
    await cell.exec(["sh", "-c", START_STORM, cell.interpreter, _program("fork_storm")], timeout=SETTLE_SECONDS)
    with anyio.move_on_after(SETTLE_SECONDS):
        while (crowd := footprint.count()) < cell.config.pids // 2:
            await anyio.sleep(POLL_SECONDS)
        return crowd
    raise CellError("the fork storm of the drill did not start")


async def lease_drill(config: CellConfig, lease_seconds: float = LEASE_SECONDS) -> str | None:
    """Probe 32: the cells of a harness that is stopped or killed end within the lease.

    Args:
        config: Configuration of the cells.
        lease_seconds: The lease given to the wardens; the drill always checks `LEASE_SECONDS`.
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
    """A harness in a process of its own, with a cell in which daemons run."""

    pid: int
    """The harness's process."""

    footprint: Footprint
    """The traces of its cell on the host."""

    folder: Path
    """The cell's folder."""


async def end_harness(harness: DrilledHarness, number: signal.Signals, bound: float) -> str | None:
    """Send a signal to a harness. Return what is left of its cell after `bound` seconds, None if nothing is."""
    footprint, folder = harness.footprint, harness.folder
    begun = time.perf_counter()
    os.kill(harness.pid, number)
    while footprint.may_be_alive() or footprint.live_pids():
        if time.perf_counter() - begun > bound:
            return f"{len(footprint.live_pids())} processes of the cell run {bound:g} s after the end of their harness"
        await anyio.sleep(POLL_SECONDS)
    with anyio.move_on_after(SWEPT_SECONDS):
        while folder.exists() or footprint.left_over():
            await anyio.sleep(POLL_SECONDS)
    left = [*footprint.left_over(), *([f"folder {folder}"] if folder.exists() else [])]
    return f"remains of the cell: {', '.join(left)}" if left else None


@asynccontextmanager
async def harnesses_with_cells(
    config: CellConfig, count: int = 1, lease_seconds: float = LEASE_SECONDS
) -> AsyncIterator[list[DrilledHarness]]:
    """Start harness processes, each with a cell in which daemons run. Kill and reap them at the end of the block.

    Raises:
        CellError: A harness did not start.
    """
    command = [sys.executable, "-m", "redline.seal.drilled_harness"]
    command += [config.model_dump_json(), str(lease_seconds), str(count)]
    for attempt in range(HARNESS_TRIES):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            made = await _started_harnesses(process, count)
            if len(made) == count:
                yield made
                return
            # On a busy host the short lease can expire before the cell is complete, which is no failure of the lease.
            if attempt == HARNESS_TRIES - 1:
                raise CellError("the harness of the drill did not start")
        finally:
            await _end(process)


async def _started_harnesses(process: "subprocess.Popen[bytes]", count: int) -> list[DrilledHarness]:
    """Return the harnesses of a process that reported their cells within `HARNESS_SECONDS`."""
    assert process.stdout is not None
    made: list[DrilledHarness] = []
    with anyio.move_on_after(HARNESS_SECONDS):
        async for line in _lines(process.stdout.fileno()):
            report = json.loads(line)
            footprint = Footprint.of(report["inits"], os.geteuid())
            made.append(DrilledHarness(report["pid"], footprint, Path(report["folder"])))
            if len(made) == count:
                break
    return made


async def _lines(fd: int) -> AsyncIterator[bytes]:
    """Yield the lines of a pipe as they arrive. A thread that blocks on the pipe could not be cancelled."""
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
    """Kill a process. Its children have asked the kernel to be killed when it dies."""
    process.kill()
    with anyio.CancelScope(shield=True), suppress(subprocess.TimeoutExpired):
        await anyio.to_thread.run_sync(process.wait, KILL_BOUND, abandon_on_cancel=True)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def footprint_of(cell: Cell) -> Footprint:
    """Return the traces of a cell on the host.

    Raises:
        CellGoneError: Its first processes ended before they could be read.
    """
    try:
        return Footprint.of([node.init_pid for node in cell.nodes.values()], os.geteuid())
    except OSError as error:
        raise CellGoneError(f"the cell ended before its footprint was taken: {error}") from error


async def _leave_daemons(cell: Cell) -> None:
    """Start a daemon by every method of detaching one, and one that is stopped.

    Raises:
        CellError: They did not start, so their absence would prove nothing.
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
    raise CellError("the daemons of the drill did not start")


@cache
def _program(name: str) -> str:
    return files("redline.seal").joinpath(f"programs/{name}.py").read_text()
