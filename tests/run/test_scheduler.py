"""The order in which trials start."""

from collections import Counter
from itertools import count

import anyio
import pytest

from redline.run.cell_budget import CellBudget
from redline.run.scheduler import TrialScheduler, run_order

CONDITIONS = [[f"{arm}-{number}" for number in range(count)] for arm, count in (("a", 8), ("b", 8), ("c", 3))]


def test_the_order_is_randomised_by_the_seed_in_blocks_of_equal_number() -> None:
    order = run_order(CONDITIONS, 1)
    assert order == run_order(CONDITIONS, 1) != run_order(CONDITIONS, 2)
    assert Counter(order) == Counter(name for trials in CONDITIONS for name in trials)
    numbers = [int(name.split("-")[1]) for name in order]
    assert numbers == sorted(numbers)


def test_no_condition_always_starts_first() -> None:
    first = Counter(run_order(CONDITIONS[:2], seed)[0][0] for seed in range(200))
    assert 70 < first["a"] < 130


async def started(scheduler: TrialScheduler, names: list[str], cells: int, ends: bool = True) -> list[str]:
    """Return the order in which trials start that arrive as from Inspect: by condition, with bounded concurrency."""
    order: list[str] = []
    running: list[str] = []
    most: list[int] = []

    async def condition(trials: list[str]) -> None:
        window = anyio.Semaphore(cells)

        async def trial(name: str) -> None:
            async with window:
                await scheduler.wait_turn(name)
                running.append(name)
                most.append(len(running))
                order.append(name)
                await anyio.sleep(0.001 if ends else 0)
                running.remove(name)
                if ends:
                    scheduler.end(name)

        async with anyio.create_task_group() as group:
            for name in trials:
                group.start_soon(trial, name)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for arm in dict.fromkeys(name.split("-")[0] for name in names):
                group.start_soon(condition, [name for name in names if name.startswith(arm)])
    assert max(most) <= cells
    return order


@pytest.mark.parametrize("cells", [1, 3, 10])
def test_trials_start_in_order_at_any_concurrency(cells: int) -> None:
    names = [name for trials in CONDITIONS for name in trials]
    order = run_order(CONDITIONS, 3)
    assert anyio.run(started, TrialScheduler(order, CellBudget.fixed(cells)), names, cells) == order


def test_a_missing_condition_blocks_no_other() -> None:
    order = run_order(CONDITIONS, 3)
    there = [name for trials in CONDITIONS[1:] for name in trials]
    assert anyio.run(started, TrialScheduler(order, CellBudget.fixed(2), stall_seconds=0.02), there, 2) == [
        name for name in order if name in there
    ]


def test_trials_whose_end_is_not_reported_block_no_other() -> None:
    order = run_order(CONDITIONS, 3)
    assert anyio.run(started, TrialScheduler(order, CellBudget.fixed(2), stall_seconds=0.02), order, 2, False) == order


def test_release_lets_every_waiting_trial_start() -> None:
    async def scene() -> None:
        scheduler = TrialScheduler(["absent", "waiting"], CellBudget.fixed(1))
        with anyio.fail_after(2):
            async with anyio.create_task_group() as group:
                group.start_soon(scheduler.wait_turn, "waiting")
                await anyio.sleep(0.01)
                scheduler.release()
            await scheduler.wait_turn("absent")

    anyio.run(scene)


class Idle:
    """A host on which nothing is in use."""

    def processors(self) -> float:
        return 0.0

    def available_mib(self) -> int:
        return 1 << 20


@pytest.mark.slow
def test_more_cells_run_while_the_host_is_idle_and_stalls_add_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redline.run.scheduler.POLL_SECONDS", 0.005)
    most: list[int] = []

    async def scene(budget: CellBudget) -> None:
        names = [f"a-{number}" for number in range(40)]
        scheduler = TrialScheduler(names, budget, stall_seconds=0.02)
        running: set[str] = set()

        async def trial(name: str) -> None:
            await scheduler.wait_turn(name)
            running.add(name)
            most.append(len(running))
            assert len(running) <= budget.allowed
            await anyio.sleep(0.1)
            running.remove(name)
            scheduler.end(name)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(trial, name)

    anyio.run(scene, CellBudget(2, 12, 1.0, Idle(), count(step=10.0).__next__))
    assert max(most) == 12
    most.clear()
    anyio.run(scene, CellBudget(2, 12, 1.0, Idle(), lambda: 0.0))
    assert max(most) == 2
