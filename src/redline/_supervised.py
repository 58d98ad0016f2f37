"""A process that a program on another host supervises through remote calls.

Ray creates the object in a process on the node and passes the calls on. This module imports nothing of redline, so that
the Ray process on a node starts quickly.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

MAX_LINE = 1 << 20
"""Maximum length of a line, in bytes."""

MARKER_SECONDS = 30.0
"""Time for a file that another host has just created to appear in a shared folder."""

RETRY_SECONDS = 0.5

EXIT_SECONDS = 60.0
"""Time for a process to exit after it has closed its stdout."""


class SupervisedProcess:
    """A process on this host. Every call returns within a bounded time.

    The process must end when its stdin closes: the kernel closes it when the process that has this object dies.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def describe(self, marker: str) -> tuple[str, bool]:
        """Return redline's version on this host, and whether the host sees a file in the shared folder."""
        from redline import __version__

        end = time.monotonic() + MARKER_SECONDS
        while not os.path.exists(marker) and time.monotonic() < end:
            time.sleep(RETRY_SECONDS)
        return __version__, os.path.exists(marker)

    def start(self, arguments: tuple[str, ...], line: bytes, log: str) -> None:
        """Start this Python in a session of its own, and send it a line.

        Args:
            arguments: Arguments of Python.
            line: The first line of stdin, which stays open.
            log: File to which stderr is appended.
        """
        with open(log, "ab") as printed:
            self._process = subprocess.Popen(
                (sys.executable, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                start_new_session=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), name="lines", daemon=True).start()
        with suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _read(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(MAX_LINE):
            self._lines.put(line)
        assert self._process is not None
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._lines.put(None)

    def receive(self, seconds: float) -> list[bytes | None]:
        """Return the lines since the last call; None is the last one, after the end of the process.

        Args:
            seconds: Time to wait for the first line.
        """
        found: list[bytes | None] = []
        with suppress(queue.Empty):
            found.append(self._lines.get(timeout=seconds))
            while True:
                found.append(self._lines.get_nowait())
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it is running."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def end(self, seconds: float) -> None:
        """End the process with SIGTERM, and after a time with SIGKILL.

        Args:
            seconds: Time for the process to end in order.
        """
        self.signal(signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
