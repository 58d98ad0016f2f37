"""The budget of one cell: beyond a rate it waits, and beyond a number of strikes its tether is shut off."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline._budget import Bucket, Pace
from redline.subject.weights import MIB, Weights
from redline.tether import Broker, Caps
from redline.tether.budget import CellBudget
from redline.tether.caps import Budget
from tests.tether.outside import Model, ask, content, in_thread, site
from tests.tether.peer import Raw, call

pytestmark = pytest.mark.anyio
WEIGHTS = Weights.from_seed(11, 2 * MIB, 3)
LONG = (60_000).to_bytes(4, "big")
"""The beginning of a slow message."""


class Clock:
    """A clock that advances only on request."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_free_and_items_beyond_it_wait_for_the_rate() -> None:
    clock = Clock()
    bucket = Bucket(10, 3, clock)
    assert [bucket.take() for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    clock.now += 100
    assert [bucket.take() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


@given(st.lists(st.floats(0, 50), min_size=1, max_size=60), st.floats(1, 100), st.floats(1, 100))
def test_a_caller_that_waits_never_exceeds_the_rate(amounts: list[float], rate: float, burst: float) -> None:
    clock = Clock()
    bucket = Bucket(rate, burst, clock)
    for amount in amounts:
        clock.now += bucket.take(amount)
    assert sum(amounts) <= burst + rate * clock.now + 1e-6


async def test_a_stream_that_always_has_data_lets_other_tasks_run() -> None:
    pace = Pace(Bucket(10**9, 10**9), Bucket(10**12, 10**12))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for _ in range(100):
            assert not await pace.keep(65536)
        group.cancel_scope.cancel()
    assert turns >= 50


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


async def test_connections_beyond_the_rate_are_accepted_later_and_counted(tmp_path: Path) -> None:
    budget = Budget.default(connections_per_second=20, connections_burst=5)
    async with site(tmp_path, WEIGHTS, budget=budget) as it:
        started = it.broker._log.now()
        peers = [await in_thread(partial(Raw, it.socket)) for _ in range(25)]
        for peer in peers:
            peer.close()
        await until(lambda: it.broker.record().counters.get("connections", 0) >= 25)
        counters = it.broker.record().counters
        # At most the burst plus the rate times the elapsed time, whatever the speed of the host.
        assert counters["connections"] <= 5 + 20 * (it.broker._log.now() - started) + 1
        assert counters["throttled_connections"] >= 15
        assert [i.kind for i in it.broker.record().incidents].count("throttled") == 1
        assert content(await ask(it.original)) == "fine"


async def test_a_message_in_too_many_pieces_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, budget=Budget.default(reads_per_message=8)) as it:
        peer = Raw(it.socket)
        peer.socket.sendall(LONG)
        with pytest.raises(OSError):
            for _ in range(200):
                peer.socket.sendall(b"x")
                await anyio.sleep(0.005)
        await until(lambda: it.broker.record().counters.get("refused_flood", 0) == 1)
        assert "flood" in {incident.kind for incident in it.broker.record().incidents}
        peer.close()


async def test_reads_beyond_the_rate_wait_and_are_strikes(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, budget=Budget.default(reads_per_second=50, reads_burst=10)) as it:
        peer = Raw(it.socket)
        peer.socket.sendall(LONG)
        for _ in range(40):
            peer.socket.sendall(b"x")
            await anyio.sleep(0.002)
        await until(lambda: it.broker.record().counters.get("throttled_reads", 0) > 0)
        peer.close()
        assert it.broker.record().counters["strikes"] > 0


async def test_a_flood_shuts_off_the_tether_and_is_reported_once(tmp_path: Path) -> None:
    reports: list[str] = []

    async def callback(detail: str) -> None:
        reports.append(detail)

    async with site(tmp_path, WEIGHTS, budget=Budget.default(strikes=30)) as it:
        it.broker.on_flood(callback)
        for _ in range(40):
            peer = Raw(it.socket)
            peer.socket.sendall(b"\0\0\0\2{}")
            peer.close()
        await until(lambda: reports)
        assert it.broker.phase == "closed"
        assert (await ask(it.original)).status == 503
        await anyio.sleep(0.05)
        assert len(reports) == 1
        assert [i.kind for i in it.broker.record().incidents if "strikes" in i.detail] == ["flood"]


async def test_a_refusal_by_a_cap_is_not_a_strike(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, Caps.default(original_calls=0), budget=Budget.default(strikes=2)) as it:
        assert [(await ask(it.original)).status for _ in range(6)] == [503] * 6
        assert it.broker.phase == "run"
        assert it.broker.record().counters.get("strikes", 0) == 0


async def test_ordinary_calls_wait_and_expected_calls_do_not() -> None:
    clock = Clock()
    counters: Counter[str] = Counter()
    budget = CellBudget(
        Budget.default(calls_per_second=0.001, calls_burst=1), counters, lambda kind, detail: None, clock
    )
    await budget.admit_call(expected=False)
    with anyio.fail_after(5):
        for _ in range(10):
            await budget.admit_call(expected=True)
    with anyio.move_on_after(0.05) as waited:
        await budget.admit_call(expected=False)
    assert waited.cancelled_caught
    assert counters["throttled_calls"] == 1


async def test_an_expected_call_is_not_closed_for_other_connections_of_its_sender(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        with it.broker.expect("t-9", proof="spot", reply="yes"):
            kept = Raw(it.socket)
            kept.send(call("t-9"))
            assert (await in_thread(kept.receive))["type"] == "prove"
            idle = [Raw(it.socket) for _ in range(40)]  # of this process, beyond the limit of one sender
            await until(lambda: it.broker.record().counters.get("refused_connections", 0) >= 20)
            kept.send({"type": "proof", "value": "0" * 64})
            assert (await in_thread(kept.receive))["type"] == "refused"  # with its reason
            for peer in (kept, *idle):
                peer.close()
        await until(lambda: it.broker.record().counters.get("refused_proof"))
        (record,) = [c for c in it.broker.record().calls if c.ticket == "t-9"]
        assert record.refusal == "proof"


async def test_a_broker_closed_while_a_flood_waits_ends_without_an_error(tmp_path: Path) -> None:
    budget = Budget.default(connections_per_second=5, connections_burst=1)
    broker = Broker({}, WEIGHTS, Caps.default(), Model(), budget=budget)
    async with anyio.create_task_group() as group:
        broker.listen({"default": tmp_path / "s"})
        group.start_soon(broker.serve)
        peers = [await in_thread(partial(Raw, tmp_path / "s")) for _ in range(10)]
        await until(lambda: broker.record().counters.get("throttled_connections"))
        await broker.aclose()
        await anyio.sleep(0.5)
        for peer in peers:
            peer.close()
        group.cancel_scope.cancel()
