"""Run a plan in local worker processes."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from redline._errors import UsageError
from redline.cell.open import choose_runtime
from redline.plan import Plan, completed
from redline.run.arms import arm_task, shapes_of
from redline.run.execute import RunOptions, RunOutcome
from redline.run.folder import RunFolder
from redline.run.models import max_cells, price, ready_models, refuse_dead_servers, refuse_weak_runtime
from redline.run.parts.engine import END_SECONDS, MAX_LINE, Slot
from redline.run.parts.messages import Job
from redline.run.parts.pool import limits, run_parts
from redline.run.room import check_room
from redline.run.servers import is_embedded, max_cells_for_servers
from redline.run.watch import Watcher

COMMAND = (sys.executable, "-m", "redline.run.parts.worker")
"""Command of a worker."""


def run_workers(plan: Plan, folder: RunFolder, watcher: Watcher, options: RunOptions, workers: int) -> RunOutcome:
    """Run every trial of the plan that no part in the folder contains yet, and merge the parts in the folder.

    Args:
        plan: The plan.
        folder: Folder of the merged run; its parts are in `parts`.
        watcher: Receives the progress of all workers.
        options: Options of the run; `cells` and the host's size bound all workers together.
        workers: Maximum number of concurrent worker processes.

    Raises:
        UsageError: The plan, a model or the folder cannot be used.
        EvidenceError: A record in the folder is altered.
    """
    plan = completed(plan)
    cells = _all_cells(plan, options, watcher)
    return run_parts(plan, folder, watcher, options, LocalEngine(cells, min(workers, cells)))


def _all_cells(plan: Plan, options: RunOptions, watcher: Watcher) -> int:
    """Return the number of concurrent cells of all workers together."""
    runtime = choose_runtime(plan.runtime).name
    refuse_weak_runtime(plan, runtime)
    price(plan, options.prices, (options.judge, options.monitor))
    models = ready_models(plan)
    for label, model in models.items():
        if is_embedded(model):
            raise UsageError(
                f"model {label}: every worker would start a server of its own; start one server and give its address, "
                "or run without --workers"
            )
    refuse_dead_servers(list(models.values()))
    shapes = shapes_of([arm_task(arm, plan) for arm in plan.arms])
    if options.cells is None:
        return max_cells(runtime, shapes, max_cells_for_servers(models.values()))
    if (warning := check_room(options.cells, shapes)) is not None:
        watcher.note(warning)
    return options.cells


def shares(cells: int, workers: int) -> list[int]:
    """Split the number of cells over the workers, nearly equally."""
    return [cells * (index + 1) // workers - cells * index // workers for index in range(workers)]


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes on this host, which share its cells."""

    cells: int
    """Maximum number of concurrent cells of all workers."""
    size: int
    """Maximum number of workers."""
    spans_hosts: bool = False

    @property
    def max_trials_per_part(self) -> int:
        """Maximum number of trials of one part."""
        return limits().max_trials_per_part

    async def slots(self, shared: Path) -> AsyncGenerator[Slot, None]:
        """Yield a slot for each worker."""
        for share in shares(self.cells, self.size):
            yield LocalSlot(share)

    def release(self, slot: Slot, *, unfit: bool) -> None:
        """Do nothing: a slot on this host is never lost or unfit."""


@dataclass(frozen=True)
class LocalSlot:
    """A share of this host's cells."""

    cells: int
    where: str = ""

    @asynccontextmanager
    async def worker(self, job: Job, log: Path) -> AsyncIterator["LocalWorker"]:
        """Start a worker in a session of its own, so that the terminal's Ctrl-C reaches the parent only."""
        with log.open("ab") as printed:
            process = await anyio.open_process(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, start_new_session=True
            )
        try:
            assert process.stdin is not None
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await process.stdin.send(job.line())
            yield LocalWorker(process)
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                    with anyio.move_on_after(END_SECONDS):
                        await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.aclose()


class LocalWorker:
    """A worker process of this host."""

    def __init__(self, process: Process) -> None:
        """Store the process."""
        assert process.stdout is not None
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def receive(self) -> bytes | None:
        """Return the next line; None when the process has ended."""
        with suppress(anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            return await self._lines.receive_until(b"\n", MAX_LINE)
        await self._process.wait()
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
