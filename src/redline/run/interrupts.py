"""Ctrl-C in two steps, while Inspect runs trials: the first lets the trials in flight end, the second cuts them.

SIGTERM cuts at once: whoever sends it (a supervisor, a shutdown) kills what has not ended soon.
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
    """What SIGINT and SIGTERM do while trials run.

    A signal handler may run between any two instructions of the event loop, so it only writes to a pipe; a thread
    passes the request on to the loop.
    """

    def __init__(self, ask: Callable[[], None], stop: Callable[[], None]) -> None:
        """Prepare; nothing is installed yet.

        Args:
            ask: Called in the signal handler itself, at either signal; it may set a flag and nothing more.
            stop: Called once in the event loop, at the first SIGINT: it lets no further trial start.
        """
        self._ask = ask
        self._stop = stop
        self._cut: Handler | None = None
        self._pipe: tuple[int, int] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals while the block runs; elsewhere than in the main thread, neither can be handled."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, self._terminate)
        if before[signal.SIGINT] is signal.SIG_IGN:
            # A shell has what it starts in the background ignore Ctrl-C; what ends the run must arrive there too.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._pipe is not None:
                os.close(self._pipe[1])  # ends the thread, which closes the other end

    def take_over(self) -> None:
        """Handle SIGINT from now on in two steps; called in the event loop that runs the trials.

        The handler that is there is the event loop's own, which cancels everything: it becomes the second step.
        """
        if self._pipe is not None or threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        self._cut = handler if callable(handler) else signal.default_int_handler
        self._pipe = os.pipe()
        token = anyio.lowlevel.current_token()
        threading.Thread(target=self._pass_on, args=(self._pipe[0], token), name="interrupt", daemon=True).start()
        signal.signal(signal.SIGINT, self._first)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self._ask()
        assert self._cut is not None and self._pipe is not None
        signal.signal(signal.SIGINT, self._cut)
        os.write(self._pipe[1], b".")

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._ask()
        handler = self._cut or signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    def _pass_on(self, pipe: int, token: anyio.lowlevel.EventLoopToken) -> None:
        try:
            while os.read(pipe, 1):
                with suppress(RuntimeError):  # the loop has ended meanwhile, and the trials with it
                    anyio.from_thread.run_sync(self._stop, token=token)
        finally:
            os.close(pipe)


@contextmanager
def terminating_like_interrupt() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does, where no trial is in flight that could be finished."""
    with Interrupts(lambda: None, lambda: None).installed():
        yield
