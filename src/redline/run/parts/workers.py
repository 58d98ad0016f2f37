"""Run a plan in local worker processes: hand out its parts, show one progress, stop in order, and merge the parts."""

import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from redline._base import read_toml
from redline._errors import ExitCode, RedlineError, UsageError
from redline._tasks import task_group
from redline.cell.open import choose_runtime
from redline.plan import Plan, PlanRecord, completed
from redline.run.arms import arm_task, shapes_of
from redline.run.execute import RunOptions, RunOutcome
from redline.run.folder import RunFolder, read_results
from redline.run.models import max_cells, price, ready_models, refuse_dead_servers, refuse_weak_runtime
from redline.run.parts.attempts import attempts_at
from redline.run.parts.merge import MergeOptions, find_attempts, merge_into
from redline.run.parts.messages import (
    Alarm,
    Began,
    Checked,
    Ended,
    Failed,
    Job,
    Judged,
    Message,
    Note,
    Sealed,
    Sealing,
    Waiting,
    to_message,
)
from redline.run.parts.part import Part, read_part_record
from redline.run.room import check_room
from redline.run.servers import is_embedded, max_cells_for_servers
from redline.run.watch import Spent, Watcher

COMMAND = (sys.executable, "-m", "redline.run.parts.worker")
"""Command of a worker."""

MAX_LINE = 1 << 20
"""Maximum length of a worker's message, in bytes."""

END_SECONDS = 60.0
"""Time for workers to end in order if the parent fails; they are killed afterwards."""

STOPPING = "Stopping: the trials in flight are finishing. Press Ctrl-C again to cancel them."


class _WorkerFailedError(RedlineError):
    """Raised for an error that a worker reported."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code)


@dataclass(frozen=True)
class _Limits:
    """Limits in the data file."""

    max_trials_per_part: int
    max_starts: int


def _limits() -> _Limits:
    return _Limits(**read_toml("redline.run.parts", "workers.toml"))


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
    with folder.claimed(plan, for_merge=True) as record:
        parts = _parts_in(folder, plan, min(workers, cells))
        pool = _Pool(record, folder, watcher, options, parts, _shares(cells, min(workers, cells, len(parts))))
        anyio.run(pool.run)
        watcher.ended()
        if pool.failed is not None:
            raise pool.failed
        if not any(any(attempts_at(pool.root_of(part))) for part in parts):
            if pool.given_up:
                raise RedlineError(pool.given_up[0])
            raise KeyboardInterrupt  # stopped before any part had begun
        merging = MergeOptions(
            key=options.key, partial=True, stopped=pool.stopped, given_up="; ".join(pool.given_up) or None
        )
        return merge_into(folder, record, find_attempts([folder.root]), merging)


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


def _shares(cells: int, workers: int) -> list[int]:
    """Split the number of cells over the workers, nearly equally."""
    return [cells * (index + 1) // workers - cells * index // workers for index in range(workers)]


def _parts_in(folder: RunFolder, plan: Plan, workers: int) -> list[Part]:
    """Return the parts of the run: as many as at its first start, or a new number of them."""
    known = (read_part_record(path) for path in sorted(folder.parts.iterdir())) if folder.parts.is_dir() else ()
    count = next((record.part.count for record in known if record is not None), None)
    if count is None:
        rounds = -(-plan.planned_trials // (_limits().max_trials_per_part * workers))
        count = min(plan.planned_trials, workers * rounds)
    return [Part(number=number, count=count) for number in range(1, count + 1)]


@dataclass
class _Pool:
    """The workers of a run."""

    plan: PlanRecord
    folder: RunFolder
    watcher: Watcher
    options: RunOptions
    parts: Sequence[Part]
    shares: Sequence[int]
    """Cells of each worker."""
    stopped: bool = False
    """Whether the user stopped the run."""
    failed: RedlineError | None = None
    """Error that ends the command."""
    given_up: list[str] = field(default_factory=list)
    """Why parts were given up, one sentence each."""
    _left: deque[Part] = field(default_factory=deque)
    _finished: dict[int, int] = field(default_factory=dict)
    """Finished trials by the number of the part."""
    _said: set[str] = field(default_factory=set)
    _running: set[Process] = field(default_factory=set)
    _is_draining: bool = False
    _has_begun: bool = False

    async def run(self) -> None:
        """Run every part; return when all workers have ended."""
        self.folder.parts.mkdir(exist_ok=True)
        self._left.extend(part for part in self.parts if not self._is_finished(part))
        async with task_group() as tasks:
            tasks.start_soon(self._handle_signals)
            async with task_group() as slots:
                for share in self.shares:
                    slots.start_soon(self._work, share)
            tasks.cancel_scope.cancel()

    def root_of(self, part: Part) -> Path:
        """Return the folder of a part's first attempt."""
        return self.folder.parts / str(part.number)

    def _is_finished(self, part: Part) -> bool:
        """Return whether a part has results with every trial, so that it needs no worker."""
        known = list(attempts_at(self.root_of(part)))
        if not known or not known[-1][0].joinpath("results.json").exists():
            return False
        results = read_results(RunFolder(known[-1][0]))
        self._finished[part.number] = len(results.trials)
        return bool(results.parts) and len(results.trials) == results.parts[0].planned

    def _show_totals(self) -> None:
        self.watcher.began(self.plan.planned_trials, sum(self._finished.values()), sum(self.shares))

    async def _work(self, cells: int) -> None:
        """Run one part after another."""
        while self._left and not self._is_draining:
            part = self._left.popleft()
            for start in range(_limits().max_starts):
                if await self._run_once(part, cells):
                    break
                if self._is_draining:
                    return
                if start + 1 < _limits().max_starts:
                    self.watcher.note(f"the worker of part {part} ended unexpectedly; starting it again")
            else:
                self.given_up.append(
                    f"part {part} was given up: its worker ended unexpectedly {_limits().max_starts} times; see "
                    f"{self._log_of(part)}"
                )

    async def _run_once(self, part: Part, cells: int) -> bool:
        """Run a part in a new worker; return whether the worker reported its end."""
        last: Message | None = None
        with self._log_of(part).open("ab") as log:
            async with self._worker(log.fileno()) as process:
                assert process.stdin is not None and process.stdout is not None
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await process.stdin.send(self._job(part, cells).model_dump_json(by_alias=True).encode() + b"\n")
                lines = BufferedByteReceiveStream(process.stdout)
                with suppress(anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        last = to_message(await lines.receive_until(b"\n", MAX_LINE))
                        self._receive(part, last)
                await process.wait()
        return isinstance(last, Ended | Failed)

    @asynccontextmanager
    async def _worker(self, log: int) -> AsyncIterator[Process]:
        """Start a worker in a session of its own, so that the terminal's Ctrl-C reaches the parent only."""
        process = await anyio.open_process(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        self._running.add(process)
        try:
            yield process
        finally:
            self._running.discard(process)
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                    with anyio.move_on_after(END_SECONDS):
                        await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.aclose()

    def _job(self, part: Part, cells: int) -> Job:
        options = self.options
        return Job(
            plan=self.plan,
            root=str(self.root_of(part).absolute()),
            part=part,
            cells=cells,
            prices=None if options.prices is None else str(options.prices.absolute()),
            judge=options.judge,
            monitor=options.monitor,
            max_retries=options.max_retries,
            model_timeout=options.model_timeout,
            model_wait=options.model_wait,
            preflight=options.preflight,
        )

    def _log_of(self, part: Part) -> Path:
        """Return the file with everything that the workers of a part print, such as a traceback."""
        return self.folder.parts / f"worker-{part.number}.log"

    def _receive(self, part: Part, message: Message) -> None:
        """Handle a worker's message."""
        watcher = self.watcher
        match message:
            case Checked():
                self._once(message.line, watcher.checked)
            case Sealing() if not self._has_begun:
                watcher.sealing(message.runtime)
            case Sealed():
                watcher.sealed(f"part {part}: {message.summary}", message.seconds)
            case Began():
                if not self._has_begun or message.finished != self._finished.get(part.number, 0):
                    self._has_begun = True
                    self._finished[part.number] = message.finished
                    self._show_totals()
            case Judged():
                self._finished[part.number] = self._finished.get(part.number, 0) + 1
                watcher.judged(message.trial, message.outcome, Spent(message.tokens, message.cost))
            case Waiting():
                watcher.waiting(message.model, message.seconds, message.fault)
            case Note() if not self._is_draining:  # a stopped worker repeats what the parent has said
                watcher.note(f"part {part}: {message.line}")
            case Alarm():
                self._drain()
            case Failed():
                self._fail(part, message)
            case Ended():
                self._end(message)
            case _:
                pass

    def _once(self, line: str, show: Callable[[str], None]) -> None:
        if line not in self._said:
            self._said.add(line)
            show(line)

    def _end(self, message: Ended) -> None:
        if message.exit_code == ExitCode.INTERRUPTED and not self._is_draining:
            self.stopped = True  # someone stopped the worker itself
            self._drain()

    def _fail(self, part: Part, message: Failed) -> None:
        """Keep the first error; nothing else is started, and the trials in flight finish."""
        if self.failed is None:
            where = f"; see {self._log_of(part)}" if message.exit_code == ExitCode.INTERNAL else ""
            self.failed = _WorkerFailedError(f"part {part}: {message.message}{where}", message.exit_code)
        self._drain()

    def _drain(self) -> None:
        """Hand out no further part, and let every worker finish its trials in flight."""
        if not self._is_draining:
            self._is_draining = True
            self._signal(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _handle_signals(self) -> None:
        """Pass Ctrl-C on in two steps; SIGTERM cancels the trials in flight at once."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for number in received:
                first = not self.stopped
                self.stopped = True
                if number == signal.SIGTERM:
                    self._is_draining = True
                    self._signal(signal.SIGTERM)
                elif first:
                    self.watcher.note(STOPPING)
                    self._drain()
                else:
                    self._signal(signal.SIGINT)
