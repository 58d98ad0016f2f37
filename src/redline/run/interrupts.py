"""Ctrl-C in two steps while Inspect runs trials: the first lets trials in flight finish, the second cancels them.

SIGTERM cancels at once, because its sender (a supervisor, a shutdown) usually kills the process soon afterwards.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import anyio.from_thread
import anyio.lowlevel

Handler = Callable[[int, FrameType | None], Any]


class Interrupts:
    """Handlers of SIGINT and SIGTERM while trials run.

    A signal handler can run between any two instructions of the event loop, so it only writes to a pipe; a thread
    passes the request on to the loop.
    """

    def __init__(self, request: Callable[[], None], stop: Callable[[], None]) -> None:
        """Store the callbacks; install no handler yet.

        Args:
            request: Called in the signal handler itself, at either signal; it must only set a flag.
            stop: Called once in the event loop, at the first SIGINT; it prevents further trials from starting.
        """
        self._request = request
        self._stop = stop
        self._cancel: Handler | None = None
        self._pipe: tuple[int, int] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals while the block runs; a thread other than the main thread cannot handle them."""
        if threading.current_thread() is not threading.main_thread():
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
        if self._pipe is not None or threading.current_thread() is not threading.main_thread():
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
def terminating_like_interrupt() -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C while no trial is in flight."""
    with Interrupts(lambda: None, lambda: None).installed():
        yield
