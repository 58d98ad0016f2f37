"""Ctrl-C in two steps while Inspect runs trials: the first lets trials in flight finish, the second cancels them.

SIGTERM cancels at once, because its sender (a supervisor, a shutdown) usually kills the process soon afterwards.

Only the main thread receives signals. If a run is in another thread, such as the one of a notebook's call, a `Relay`
passes Ctrl-C on to it.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.from_thread
import anyio.lowlevel

Handler = Callable[[int, FrameType | None], Any]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class _Steps:
    """What the first and the second Ctrl-C do in an event loop."""

    loop: asyncio.AbstractEventLoop
    first: Callable[[], None]
    second: Callable[[], None]


class Relay:
    """Passes Ctrl-C from the main thread to a run in another thread, with the same two steps."""

    def __init__(self) -> None:
        """Initialise a relay without a request."""
        self.requests = 0
        """Number of times that the user pressed Ctrl-C."""
        self._steps: _Steps | None = None

    def interrupt(self) -> None:
        """Pass a Ctrl-C on; safe in a signal handler, since it only posts a callback to the loop."""
        self.requests += 1
        if self._steps is not None:
            self._post(self._steps, self.requests)

    def attach(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Let requests call these functions in the running event loop from now on; an earlier request counts."""
        self._steps = _Steps(asyncio.get_running_loop(), first, second)
        if self.requests:
            self._post(self._steps, self.requests)

    def detach(self) -> None:
        """Only count requests from now on."""
        self._steps = None

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt if the user pressed Ctrl-C."""
        if self.requests:
            raise KeyboardInterrupt

    @staticmethod
    def _post(steps: _Steps, number: int) -> None:
        with suppress(RuntimeError):  # the loop has ended in the meantime
            steps.loop.call_soon_threadsafe(steps.first if number == 1 else steps.second)


relay_of_run: ContextVar[Relay | None] = ContextVar("relay_of_run", default=None)
"""The relay of a run that is not in the main thread."""


async def interruptible(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Await a function; a Ctrl-C that a relay passes on cancels it, as Ctrl-C does in the main thread."""
    relay = relay_of_run.get()
    if relay is None:
        return await function(*args)
    relay.raise_if_requested()
    with anyio.CancelScope() as scope:
        relay.attach(scope.cancel, scope.cancel)
        try:
            return await function(*args)
        finally:
            relay.detach()
    raise KeyboardInterrupt


class Interrupts:
    """Handlers of SIGINT and SIGTERM while trials run.

    A signal handler can run between any two instructions of the event loop, so it only writes to a pipe; a thread
    passes the request on to the loop.
    """

    def __init__(
        self, request: Callable[[], None], stop: Callable[[], None], cancel: Callable[[], None] | None = None
    ) -> None:
        """Store the callbacks; install no handler yet.

        Args:
            request: Called in the signal handler itself, at either signal; it must only set a flag.
            stop: Called once in the event loop, at the first SIGINT; it prevents further trials from starting.
            cancel: Called in the event loop at the second Ctrl-C that a relay passes on; it cancels the trials in
                flight. In the main thread, the event loop's own handler does so.
        """
        self._request = request
        self._stop = stop
        self._cancel_in_loop = cancel or stop
        self._is_relayed = False
        self._cancel: Handler | None = None
        self._pipe: tuple[int, int] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals while the block runs; in a thread other than the main thread, only a relay does."""
        if threading.current_thread() is not threading.main_thread():
            with _detached_at_the_end():
                yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, self._terminate)
        if before[signal.SIGINT] is signal.SIG_IGN:
            # A shell makes background processes ignore SIGINT, but the run must still be stoppable.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._pipe is not None:
                os.close(self._pipe[1])  # ends the thread, which closes the other end

    def take_over(self) -> None:
        """Handle SIGINT in two steps from now on; called in the event loop that runs the trials.

        The current handler is the event loop's own, which cancels everything. It becomes the second step.
        """
        if threading.current_thread() is not threading.main_thread():
            if (relay := relay_of_run.get()) is not None and not self._is_relayed:
                self._is_relayed = True
                relay.attach(self._relayed, self._cancel_in_loop)
            return
        if self._pipe is not None:
            return
        handler = signal.getsignal(signal.SIGINT)
        self._cancel = handler if callable(handler) else signal.default_int_handler
        self._pipe = os.pipe()
        token = anyio.lowlevel.current_token()
        threading.Thread(target=self._pass_on, args=(self._pipe[0], token), name="interrupt", daemon=True).start()
        signal.signal(signal.SIGINT, self._first)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self._request()
        assert self._cancel is not None and self._pipe is not None
        signal.signal(signal.SIGINT, self._cancel)
        os.write(self._pipe[1], b".")

    def _relayed(self) -> None:
        self._request()
        self._stop()

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._request()
        handler = self._cancel or signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    def _pass_on(self, pipe: int, token: anyio.lowlevel.EventLoopToken) -> None:
        try:
            while os.read(pipe, 1):
                with suppress(RuntimeError):  # the loop and its trials have ended in the meantime
                    anyio.from_thread.run_sync(self._stop, token=token)
        finally:
            os.close(pipe)


@contextmanager
def _detached_at_the_end() -> Iterator[None]:
    relay = relay_of_run.get()
    try:
        yield
    finally:
        if relay is not None:
            relay.detach()


@contextmanager
def terminating_like_interrupt() -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C while no trial is in flight, and act on a Ctrl-C that a relay passes on."""
    with Interrupts(lambda: None, lambda: None).installed():
        yield
    if (relay := relay_of_run.get()) is not None:
        relay.raise_if_requested()
