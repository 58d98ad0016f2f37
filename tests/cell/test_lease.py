"""When the holder of a lease takes a silent harness for dead: by silence, by its work, and after a pause of both."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.cell.programs import lease as module
from redline.cell.programs.lease import BUSY_LEASES, RESUME_SECONDS, STALL_SECONDS, Lease, runnable_seconds

SECONDS = 4.0
LOOK = 0.25
END = 60.0


class Simulation:
    """A clock and a harness whose working time runs at a given share of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.worked = 0.0
        monkeypatch.setattr(time, "clock_gettime", lambda _: self.now)
        monkeypatch.setattr(module, "runnable_seconds", lambda _: self.worked)

    def expiry(self, lease: Lease, busy: float = 0.0, look: float = LOOK) -> float:
        """Return the seconds of silence after which the lease expires."""
        start = self.now
        while not lease.has_expired():
            assert self.now - start < END, "the lease never expires"
            self.now += look
            self.worked += busy * look
        return self.now - start


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Simulation(monkeypatch)


def a_lease() -> Lease:
    return Lease(SECONDS, os.getppid())


def test_an_idle_harness_is_dead_at_the_end_of_its_lease(simulation: Simulation) -> None:
    assert simulation.expiry(a_lease()) == SECONDS


def test_a_renewal_starts_the_lease_anew(simulation: Simulation) -> None:
    lease = a_lease()
    for _ in range(40):
        simulation.now += SECONDS - LOOK
        lease.looked = simulation.now
        assert not lease.has_expired()
        lease.renew()
    assert simulation.expiry(lease) == SECONDS


def test_a_busy_harness_gets_more_time_and_no_more_than_the_maximum(simulation: Simulation) -> None:
    assert simulation.expiry(a_lease(), busy=1.0) == BUSY_LEASES * SECONDS


@pytest.mark.parametrize("pid", [0, 1 << 22])
def test_a_harness_that_cannot_be_seen_gets_none(simulation: Simulation, pid: int) -> None:
    assert simulation.expiry(Lease(SECONDS, pid), busy=1.0) == SECONDS


def test_a_busy_harness_that_is_then_stopped_is_dead_at_the_next_look(simulation: Simulation) -> None:
    lease = a_lease()
    while simulation.now < SECONDS:
        assert not lease.has_expired()
        simulation.now += LOOK
        simulation.worked += LOOK
    assert simulation.expiry(lease) == LOOK


def test_after_a_pause_of_the_holder_the_harness_has_a_moment_to_renew_it(simulation: Simulation) -> None:
    lease = a_lease()
    simulation.now += 100.0
    assert not lease.has_expired()
    lease.looked = simulation.now
    assert simulation.expiry(lease) == RESUME_SECONDS


@given(
    busy=st.floats(0.0, 4.0),
    looks=st.lists(st.floats(0.01, 3 * STALL_SECONDS), min_size=1, max_size=30),
)
def test_whatever_happens_a_silent_harness_is_dead_within_the_maximum(busy: float, looks: list[float]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        simulation = Simulation(monkeypatch)
        lease = a_lease()
        at = 0
        while not lease.has_expired():
            look = looks[at % len(looks)]
            simulation.now += look
            simulation.worked += busy * look
            at += 1
            assert simulation.now <= BUSY_LEASES * SECONDS + SECONDS + RESUME_SECONDS + 2 * max(looks)


def test_a_computing_thread_is_seen_from_outside_and_a_stopped_process_is_not() -> None:
    program = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            assert worked_in(process.pid, 0.4) > 0.2
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            assert worked_in(process.pid, 0.4) == 0
        finally:
            process.kill()
    assert runnable_seconds(process.pid) == 0


def worked_in(pid: int, seconds: float) -> float:
    before = runnable_seconds(pid)
    time.sleep(seconds)
    return runnable_seconds(pid) - before


def test_threads_that_end_while_they_are_read_do_no_harm() -> None:
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            threads = [threading.Thread(target=lambda: None) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    churner = threading.Thread(target=churn)
    churner.start()
    try:
        for _ in range(200):
            assert runnable_seconds(os.getpid()) > 0
    finally:
        done.set()
        churner.join()
