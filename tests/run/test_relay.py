"""A relay passes Ctrl-C from the main thread to a run in another thread, in two steps."""

import threading
from collections.abc import Callable

import anyio
import pytest

from redline.run.interrupts import Interrupts, Relay, interruptible, relay_of_run, terminating_like_interrupt

WAIT_SECONDS = 60.0


def in_thread(function: Callable[[], None], relay: Relay) -> list[BaseException]:
    """Run a function in a thread with a relay; return what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        relay_of_run.set(relay)
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    return raised


def test_a_first_and_a_second_request_call_different_functions_in_the_loop() -> None:
    relay, called = Relay(), list[str]()
    interrupts = Interrupts(
        lambda: called.append("request"), lambda: called.append("stop"), lambda: called.append("cancel")
    )

    async def run() -> None:
        interrupts.take_over()
        interrupts.take_over()  # at the start of a second task
        for _ in range(2):
            await anyio.to_thread.run_sync(relay.interrupt)
            await anyio.sleep(0.05)

    def work() -> None:
        with interrupts.installed():
            anyio.run(run)

    assert not in_thread(work, relay)
    assert called == ["request", "stop", "cancel"]
    relay.interrupt()  # the loop has ended
    assert called == ["request", "stop", "cancel"]


def test_a_request_before_the_loop_takes_effect_once_the_trials_start() -> None:
    relay, called = Relay(), list[str]()

    async def run() -> None:
        Interrupts(lambda: called.append("request"), lambda: called.append("stop")).take_over()
        await anyio.sleep(0.05)

    relay.interrupt()
    assert not in_thread(lambda: anyio.run(run), relay)
    assert called == ["request", "stop"]


def test_a_request_cancels_what_runs_before_the_trials() -> None:
    relay = Relay()

    async def wait() -> None:
        await anyio.to_thread.run_sync(relay.interrupt)
        await anyio.sleep(WAIT_SECONDS)

    (raised,) = in_thread(lambda: anyio.run(interruptible, wait), relay)
    assert isinstance(raised, KeyboardInterrupt)


def test_a_request_between_two_steps_ends_the_run() -> None:
    relay = Relay()

    def work() -> None:
        with terminating_like_interrupt():
            relay.interrupt()

    (raised,) = in_thread(work, relay)
    assert isinstance(raised, KeyboardInterrupt)


def test_without_a_relay_a_function_is_only_awaited() -> None:
    async def answer(value: int) -> int:
        return value

    assert anyio.run(interruptible, answer, 4) == 4
    with terminating_like_interrupt():
        pass


def test_an_error_of_the_function_is_not_hidden() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    (raised,) = in_thread(lambda: anyio.run(interruptible, fail), Relay())
    assert isinstance(raised, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        anyio.run(interruptible, fail)
