"""The pool hands out every part, whatever happens to slots and workers of an engine."""

import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from pydantic import BaseModel

from redline._errors import ExitCode
from redline.plan import Plan, PlanRecord, completed
from redline.run import RunFolder, RunOptions
from redline.run.parts.engine import LostSlotError, NoSlotError, Slot, UnfitSlotError
from redline.run.parts.messages import Alarm, Ended, Failed, Job
from redline.run.parts.part import Part
from redline.run.parts.pool import Pool, limits, number_of_parts
from redline.run.parts.workers import shares
from tests.run.folders import Silent

PARTS = 4

Script = Callable[["FakeSlot", Job], AsyncIterator[BaseModel]]
"""Yields the messages of a worker, or raises what its slot raises."""

OK = Ended(exit_code=ExitCode.OK)


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class FakeWorker:
    def __init__(self, messages: AsyncIterator[BaseModel]) -> None:
        self._messages = messages
        self.signals: list[int] = []

    async def receive(self) -> bytes | None:
        async for message in self._messages:
            return message.model_dump_json().encode()
        return None

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)


@dataclass
class FakeSlot:
    engine: "FakeEngine"
    where: str
    cells: int = 1

    @asynccontextmanager
    async def worker(self, job: Job, log: Path) -> AsyncIterator[FakeWorker]:
        self.engine.begun.append((self.where, job.part.number))
        worker = FakeWorker(self.engine.script(self, job))
        self.engine.workers.append(worker)
        yield worker


@dataclass
class FakeEngine:
    """Slots on several hosts; lost ones come back, as long as `lives` is above 0."""

    script: Script
    names: tuple[str, ...] = ("a", "b")
    spans_hosts: bool = True
    lives: int = 3
    size: int = 2
    cells: int = 2
    max_trials_per_part: int = 1
    begun: list[tuple[str, int]] = field(default_factory=list)
    workers: list[FakeWorker] = field(default_factory=list)
    released: list[tuple[str, bool]] = field(default_factory=list)

    async def slots(self, shared: Path) -> AsyncGenerator[Slot, None]:
        for name in self.names:
            yield FakeSlot(self, name)
        seen = 0
        with anyio.move_on_after(5):
            while True:
                await anyio.sleep(0.01)
                for name, unfit in self.released[seen:]:
                    seen += 1
                    if not unfit and self.lives:
                        self.lives -= 1
                        yield FakeSlot(self, name)
                if all(unfit for _, unfit in self.released) and len(self.released) == len(self.names):
                    break
        raise NoSlotError("no host is left")

    def release(self, slot: Slot, *, unfit: bool) -> None:
        self.released.append((slot.where, unfit))


def run(root: Path, engine: FakeEngine) -> tuple[Pool, Notes]:
    plan = completed(
        Plan.model_validate(
            {"arms": ["self_replication"], "models": ["redline/refuser"], "trials": 4, "runtime": "runc"}
        )
    )
    notes = Notes()
    parts = [Part(number=number, count=PARTS) for number in range(1, PARTS + 1)]
    pool = Pool(PlanRecord.of(plan), RunFolder(root), notes, RunOptions(), parts, engine)
    anyio.run(pool.run)
    return pool, notes


def parts_that_ended(engine: FakeEngine) -> list[int]:
    return sorted(part for _, part in engine.begun)


async def finishes(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
    await anyio.sleep(0.01)
    yield OK


def test_every_part_runs_once(tmp_path: Path) -> None:
    engine = FakeEngine(finishes)
    pool, _ = run(tmp_path, engine)
    assert parts_that_ended(engine) == [1, 2, 3, 4]
    assert {host for host, _ in engine.begun} == {"a", "b"}
    assert (pool.failed, pool.given_up, pool.stopped) == (None, [], False)
    assert set(engine.released) == {("a", False), ("b", False)}  # the fake engine may offer them again before the end


def test_a_part_of_a_lost_slot_runs_again(tmp_path: Path) -> None:
    lost: list[str] = []

    async def loses_the_second_part(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        await anyio.sleep(0.01)
        if job.part.number == 2 and not lost:
            lost.append(slot.where)
            raise LostSlotError("it was lost")
        yield OK

    engine = FakeEngine(loses_the_second_part)
    pool, notes = run(tmp_path, engine)
    assert parts_that_ended(engine) == [1, 2, 2, 3, 4]
    assert (pool.failed, pool.given_up) == (None, [])
    assert notes.lines == [f"part 2/4 on {lost[0]}: it was lost; the part is run again"]


def test_the_last_part_of_a_lost_slot_runs_in_the_slot_that_had_no_part_left(tmp_path: Path) -> None:
    async def only_a_works(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        if slot.where == "b":
            await anyio.sleep(0.3)  # meanwhile, the other slot has run the rest
            raise LostSlotError("it was lost")
        await anyio.sleep(0.01)
        yield OK

    engine = FakeEngine(only_a_works, lives=0)
    pool, _ = run(tmp_path, engine)
    assert len(engine.begun) == PARTS + 1 and engine.begun[-1][0] == "a"
    assert (pool.failed, pool.given_up) == (None, [])


def test_a_part_that_is_lost_again_and_again_is_given_up(tmp_path: Path) -> None:
    async def loses_the_first_part(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        if job.part.number == 1:
            raise LostSlotError("it was lost")
        yield OK

    engine = FakeEngine(loses_the_first_part, lives=100)
    pool, _ = run(tmp_path, engine)
    assert parts_that_ended(engine) == [1] * limits().max_lost_slots + [2, 3, 4]
    assert pool.given_up == [f"part 1/4 was given up: it was lost {limits().max_lost_slots} times; it was lost"]


@pytest.mark.parametrize("by_exit_code", [True, False])
def test_a_host_without_a_proved_seal_runs_nothing_more_and_the_others_go_on(
    tmp_path: Path, by_exit_code: bool
) -> None:
    async def a_is_unfit(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        if slot.where == "a" and not by_exit_code:
            raise UnfitSlotError("it has another version")
        await anyio.sleep(0.01)
        yield Ended(exit_code=ExitCode.SEAL) if slot.where == "a" else OK

    engine = FakeEngine(a_is_unfit)
    pool, notes = run(tmp_path, engine)
    assert [host for host, _ in engine.begun].count("a") == 1
    assert {part for host, part in engine.begun if host == "b"} == {1, 2, 3, 4}
    assert (pool.failed, pool.given_up) == (None, [])
    assert notes.lines == [f"a runs no part: {'the seal was not proved' if by_exit_code else 'it has another version'}"]


def test_an_error_on_every_host_ends_the_command_with_its_exit_code(tmp_path: Path) -> None:
    async def fails(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        yield Failed(exit_code=ExitCode.USAGE, message="no container runtime found")

    pool, _ = run(tmp_path, FakeEngine(fails))
    assert pool.failed is not None
    assert pool.failed.exit_code == ExitCode.USAGE
    assert "no container runtime found" in str(pool.failed)


def test_an_internal_error_ends_the_command_at_once(tmp_path: Path) -> None:
    async def fails(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        yield Failed(exit_code=ExitCode.INTERNAL, message="a fault")

    engine = FakeEngine(fails, names=("a",))
    pool, _ = run(tmp_path, engine)
    assert pool.failed is not None and pool.failed.exit_code == ExitCode.INTERNAL
    assert len(engine.begun) == 1


@pytest.mark.parametrize("spans_hosts", [True, False])
def test_a_worker_that_ends_without_a_report_is_started_three_times(tmp_path: Path, spans_hosts: bool) -> None:
    async def ends(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        if job.part.number > 1:
            yield OK

    engine = FakeEngine(ends, spans_hosts=spans_hosts)
    pool, notes = run(tmp_path, engine)
    assert parts_that_ended(engine) == [1] * limits().max_starts + [2, 3, 4]
    assert len(notes.lines) == limits().max_starts - 1
    assert "part 1/4 was given up" in pool.given_up[0]


@pytest.mark.parametrize(
    "message",
    [
        Failed(exit_code=ExitCode.USAGE, message="another run is writing", in_use=True),
        Ended(exit_code=ExitCode.INTERRUPTED),
    ],
)
def test_a_locked_part_and_one_whose_host_shuts_down_run_again(tmp_path: Path, message: BaseModel) -> None:
    seen: list[str] = []

    async def once(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        if job.part.number == 1 and not seen:
            seen.append(slot.where)
            yield message
        else:
            yield OK

    engine = FakeEngine(once)
    pool, _ = run(tmp_path, engine)
    assert parts_that_ended(engine) == [1, 1, 2, 3, 4]
    assert (pool.failed, pool.given_up, pool.stopped) == (None, [], False)


def test_a_stopped_local_worker_stops_the_run(tmp_path: Path) -> None:
    async def is_stopped(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        yield Ended(exit_code=ExitCode.INTERRUPTED)

    pool, _ = run(tmp_path, FakeEngine(is_stopped, spans_hosts=False, names=("",)))
    assert pool.stopped


def test_an_alarm_in_one_part_ends_all_parts_in_order(tmp_path: Path) -> None:
    async def alarm(slot: FakeSlot, job: Job) -> AsyncIterator[BaseModel]:
        if slot.where == "a":
            await anyio.sleep(0.05)
            yield Alarm()
        while not all(worker.signals for worker in slot.engine.workers):
            await anyio.sleep(0.01)
        yield Ended(exit_code=ExitCode.SEAL)

    engine = FakeEngine(alarm)
    pool, _ = run(tmp_path, engine)
    assert len(engine.begun) == 2
    assert [worker.signals for worker in engine.workers] == [[signal.SIGINT]] * 2
    assert not pool.stopped


def test_without_any_slot_the_run_is_given_up(tmp_path: Path) -> None:
    pool, _ = run(tmp_path, FakeEngine(finishes, names=(), lives=0))
    assert pool.given_up == ["no host is left"]


def test_the_number_of_parts_is_a_multiple_of_the_slots() -> None:
    assert number_of_parts(trials=12, slots=2, max_trials=250) == 2
    assert number_of_parts(trials=200, slots=3, max_trials=64) == 6
    assert number_of_parts(trials=2, slots=3, max_trials=64) == 2
    assert shares(7, 3) == [2, 2, 3]
