"""Run a plan in parts: hand them out to slots of an engine, show one progress, stop in order, and merge the parts."""

import signal
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from redline._base import read_toml
from redline._bounds import MAX_PARTS
from redline._errors import ExitCode, RedlineError
from redline._tasks import task_group
from redline.plan import Plan, PlanRecord, completed
from redline.run.execute import RunOptions, RunOutcome
from redline.run.folder import RunFolder, read_results
from redline.run.parts.attempts import attempts_at
from redline.run.parts.engine import Engine, LostSlotError, NoSlotError, Slot, UnfitSlotError, Worker
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
from redline.run.watch import Spent, Watcher

STOPPING = "Stopping: the trials in flight are finishing. Press Ctrl-C again to cancel them."


class _WorkerFailedError(RedlineError):
    """Raised for an error that a worker reported."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code)


@dataclass(frozen=True)
class Limits:
    """Limits in the data file."""

    max_trials_per_part: int
    max_starts: int
    max_lost_slots: int


def limits() -> Limits:
    """Return the limits in the data file."""
    return Limits(**read_toml("redline.run.parts", "workers.toml"))


def run_parts(
    plan: Plan,
    folder: RunFolder,
    watcher: Watcher,
    options: RunOptions,
    engine: Engine,
    *,
    close: Callable[[], None] = lambda: None,
) -> RunOutcome:
    """Run every trial of the plan that no part in the folder contains yet, and merge the parts in the folder.

    Args:
        plan: The plan.
        folder: Folder of the merged run; its parts are in `parts`.
        watcher: Receives the progress of all workers.
        options: Options of the run.
        engine: Runs the workers.
        close: Called when no part runs any more, before the merge.

    Raises:
        UsageError: The plan, a model or the folder cannot be used.
        EvidenceError: A record in the folder is altered.
    """
    plan = completed(plan)
    with folder.claimed(plan, for_merge=True) as record:
        pool = Pool(record, folder, watcher, options, _parts_in(folder, plan, engine), engine)
        anyio.run(pool.run)
        close()
        watcher.ended()
        if pool.failed is not None:
            raise pool.failed
        if not any(any(attempts_at(pool.root_of(part))) for part in pool.parts):
            if pool.given_up:
                raise RedlineError(pool.given_up[0])
            raise KeyboardInterrupt  # stopped before any part had begun
        merging = MergeOptions(
            key=options.key, partial=True, stopped=pool.stopped, given_up="; ".join(pool.given_up) or None
        )
        return merge_into(folder, record, find_attempts([folder.root]), merging)


def _parts_in(folder: RunFolder, plan: Plan, engine: Engine) -> list[Part]:
    """Return the parts of the run: as many as at its first start, or a new number of them."""
    known = (read_part_record(path) for path in sorted(folder.parts.iterdir())) if folder.parts.is_dir() else ()
    count = next((record.part.count for record in known if record is not None), None)
    if count is None:
        count = number_of_parts(plan.planned_trials, engine.size, engine.max_trials_per_part)
    return [Part(number=number, count=count) for number in range(1, count + 1)]


def number_of_parts(trials: int, slots: int, max_trials: int) -> int:
    """Return the number of parts: a multiple of the slots, so that each slot runs equally many.

    Args:
        trials: Trials of the plan.
        slots: Slots of the engine.
        max_trials: Maximum number of trials of one part.
    """
    rounds = -(-trials // (max_trials * slots))
    return min(trials, slots * rounds, MAX_PARTS)


@dataclass
class Pool:
    """The workers of a run."""

    plan: PlanRecord
    folder: RunFolder
    watcher: Watcher
    options: RunOptions
    parts: Sequence[Part]
    engine: Engine
    stopped: bool = False
    """Whether the user stopped the run."""
    failed: RedlineError | None = None
    """Error that ends the command."""
    given_up: list[str] = field(default_factory=list)
    """Why parts were given up, one sentence each."""
    _left: deque[Part] = field(default_factory=deque)
    _in_flight: int = 0
    """Number of parts that a slot is running."""
    _finished: dict[int, int] = field(default_factory=dict)
    """Finished trials by the number of the part."""
    _starts: Counter[int] = field(default_factory=Counter)
    """Workers that ended without a report, by the number of the part."""
    _losses: Counter[int] = field(default_factory=Counter)
    """Slots that were lost, by the number of the part."""
    _unfit: RedlineError | None = None
    """Why a slot could not run a part; it ends the command if no other slot can."""
    _said: set[str] = field(default_factory=set)
    _running: set[Worker] = field(default_factory=set)
    _waits: set[anyio.CancelScope] = field(default_factory=set)
    """Waits for slots and for workers to start, which a stop ends."""
    _changed: anyio.Event = field(default_factory=anyio.Event)
    _is_draining: bool = False
    _has_begun: bool = False

    async def run(self) -> None:
        """Run every part; return when all workers have ended."""
        self.folder.parts.mkdir(exist_ok=True)
        self._left.extend(part for part in self.parts if not self._is_finished(part))
        async with task_group() as tasks:
            tasks.start_soon(self._handle_signals)
            async with task_group() as slots:
                slots.start_soon(self._offer, slots)
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
        self.watcher.began(self.plan.planned_trials, sum(self._finished.values()), self.engine.cells)

    @property
    def _is_over(self) -> bool:
        """Whether no part has to start any more."""
        return self._is_draining or not (self._left or self._in_flight)

    async def _offer(self, tasks: TaskGroup) -> None:
        """Use every slot that the engine offers until no part has to start any more."""
        if self._is_over:
            return
        try:
            async with self._until_stopped(), aclosing(self.engine.slots(self.folder.parts)) as slots:
                async for slot in slots:
                    tasks.start_soon(self._work, slot)
        except NoSlotError as error:
            if self._unfit is None:
                self.given_up.append(str(error))
            else:
                self.failed = self.failed or self._unfit
            self._drain()

    @asynccontextmanager
    async def _until_stopped(self) -> AsyncIterator[anyio.CancelScope]:
        """Cancel the block when no part has to start any more."""
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                yield scope
            finally:
                self._waits.discard(scope)

    async def _work(self, slot: Slot) -> None:
        """Run one part after another in a slot."""
        unfit = False
        try:
            while not unfit and (part := await self._next_part()) is not None:
                self._in_flight += 1
                try:
                    if not await self._run_once(part, slot):
                        self._left.append(part)
                except LostSlotError as error:
                    self._lose(part, slot, error)
                    return
                except UnfitSlotError as error:
                    unfit = True
                    self._left.appendleft(part)
                    self.watcher.note(f"{slot.where} runs no part: {error}")
                finally:
                    self._in_flight -= 1
                    self._notify()
        finally:
            self.engine.release(slot, unfit=unfit)

    async def _next_part(self) -> Part | None:
        """Return the next part; None if no part has to start any more.

        While another slot runs the last part, this one waits: that part may have to run again.
        """
        while not self._is_over:
            if self._left:
                return self._left.popleft()
            await self._changed.wait()
        return None

    async def _run_once(self, part: Part, slot: Slot) -> bool:
        """Run a part in a new worker; return whether it needs no other worker."""
        last: Message | None = None
        async with AsyncExitStack() as stack:
            async with self._until_stopped() as start:
                worker = await stack.enter_async_context(slot.worker(self._job(part, slot), self._log_of(part)))
            if start.cancel_called:
                return True
            self._running.add(worker)
            stack.callback(self._running.discard, worker)
            while (line := await worker.receive()) is not None:
                last = to_message(line)
                self._receive(part, slot, last)
        return self._is_settled(part, slot, last)

    def _is_settled(self, part: Part, slot: Slot, last: Message | None) -> bool:
        """Return whether a part needs no other worker after one has ended.

        Args:
            part: The part.
            slot: Where the worker was.
            last: The worker's last message.

        Raises:
            UnfitSlotError: The slot cannot run this part, but another one may.
        """
        elsewhere = self.engine.spans_hosts
        match last:
            case Failed() if elsewhere and last.in_use:
                pass  # the host that was lost still holds the lock
            case Failed() if elsewhere and last.exit_code == ExitCode.USAGE:
                self._unfit = _WorkerFailedError(f"{_at(part, slot)}: {last.message}", last.exit_code)
                raise UnfitSlotError(last.message)
            case Failed():
                self._fail(part, slot, last)
                return True
            case Ended() if elsewhere and last.exit_code == ExitCode.INTERRUPTED:
                pass  # the host is shutting down
            case Ended() if elsewhere and last.exit_code == ExitCode.SEAL and not self._is_finished(part):
                if not self._is_draining:
                    raise UnfitSlotError("the seal was not proved")
            case Ended():
                if last.exit_code == ExitCode.INTERRUPTED and not self._is_draining:
                    self.stopped = True  # someone stopped the worker itself
                    self._drain()
                return True
            case _:
                pass
        return self._is_draining or not self._can_start_again(part)

    def _can_start_again(self, part: Part) -> bool:
        """Count a worker that ended without a report; return whether the part has another start, or give it up."""
        self._starts[part.number] += 1
        if self._starts[part.number] < limits().max_starts:
            self.watcher.note(f"the worker of part {part} ended unexpectedly; starting it again")
            return True
        self.given_up.append(
            f"part {part} was given up: its worker ended unexpectedly {limits().max_starts} times; see "
            f"{self._log_of(part)}"
        )
        return False

    def _lose(self, part: Part, slot: Slot, error: LostSlotError) -> None:
        """Return a part of a lost slot to those that are left, or give it up."""
        self._losses[part.number] += 1
        if self._losses[part.number] < limits().max_lost_slots:
            self._left.appendleft(part)
            self.watcher.note(f"{_at(part, slot)}: {error}; the part is run again")
        else:
            self.given_up.append(f"part {part} was given up: it was lost {limits().max_lost_slots} times; {error}")

    def _job(self, part: Part, slot: Slot) -> Job:
        options = self.options
        return Job(
            plan=self.plan,
            root=str(self.root_of(part).absolute()),
            part=part,
            cells=slot.cells,
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

    def _receive(self, part: Part, slot: Slot, message: Message) -> None:
        """Handle a worker's message."""
        watcher = self.watcher
        match message:
            case Checked():
                self._once(message.line, watcher.checked)
            case Sealing() if not self._has_begun:
                watcher.sealing(message.runtime)
            case Sealed():
                watcher.sealed(f"{_at(part, slot)}: {message.summary}", message.seconds)
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
                watcher.note(f"{_at(part, slot)}: {message.line}")
            case Alarm():
                self._drain()
            case _:
                pass

    def _once(self, line: str, show: Callable[[str], None]) -> None:
        if line not in self._said:
            self._said.add(line)
            show(line)

    def _fail(self, part: Part, slot: Slot, message: Failed) -> None:
        """Keep the first error; nothing else is started, and the trials in flight finish."""
        if self.failed is None:
            where = f"; see {self._log_of(part)}" if message.exit_code == ExitCode.INTERNAL else ""
            self.failed = _WorkerFailedError(f"{_at(part, slot)}: {message.message}{where}", message.exit_code)
        self._drain()

    def _drain(self) -> None:
        """Hand out no further part, and let every worker finish its trials in flight."""
        if not self._is_draining:
            self._stop(signal.SIGINT)

    def _stop(self, number: signal.Signals) -> None:
        """Hand out no further part, and send a signal to every worker."""
        self._is_draining = True
        for worker in self._running:
            worker.signal(number)
        self._notify()

    def _notify(self) -> None:
        """Wake the slots that wait for a part; end all waits if no part has to start any more."""
        self._changed.set()
        self._changed = anyio.Event()
        for wait in tuple(self._waits) if self._is_over else ():
            wait.cancel()

    async def _handle_signals(self) -> None:
        """Pass Ctrl-C on in two steps; SIGTERM cancels the trials in flight at once."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for number in received:
                first = not self.stopped
                self.stopped = True
                if number == signal.SIGTERM or not first:
                    self._stop(number)
                else:
                    self.watcher.note(STOPPING)
                    self._drain()


def _at(part: Part, slot: Slot) -> str:
    """Return the part, and the host of its slot if it is another one, for messages."""
    return f"part {part} on {slot.where}" if slot.where else f"part {part}"
