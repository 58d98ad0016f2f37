"""The harness's side of the warden: the small process outside that makes cells and ends them whatever happens.

Each kind of runtime starts its own warden; see `cell/oci/warden.py` and `cell/docker/warden.py`.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from redline.cell.errors import CellError, CellGoneError, NoAnswerError
from redline.cell.messages import close_all, encode, receive_reply
from redline.cell.programs.lease import BUSY_SHARE, runnable_seconds
from redline.cell.programs.prelude import is_ending
from redline.cell.state import (
    SETUP_FILE,
    SWEEP_SECONDS,
    in_state_folder,
    new_owner,
    state_location,
    sweep_owner,
    sweep_stale,
)
from redline.cell.toolset import Toolset
from redline.cell.traits import Traits

LEASE_SECONDS = 4.0
"""Silence after which a harness counts as dead; with the kill, its cells end in less than five seconds."""

BEAT_SECONDS = 0.5
BEATS_OF_LEASE = 4
MOMENT = 0.05
"""Time after which the end of a process is visible, once its sockets have closed."""

END_SECONDS = 10.0
"""Time in which a warden whose harness was late ends its cells and itself."""

RECENT_SECONDS = 20.0
"""Time after a stop of the harness during which the stop can be the cause of its warden's end."""

START_TIMEOUT = 20.0
CLOSE_TIMEOUT = 60.0
SEND_SECONDS = 10.0
GONE = "the warden is gone, and its cells with it"


@dataclass(frozen=True)
class HarnessContext:
    """What all cells of a harness share."""

    owner: Path
    root: Path
    tools: Toolset

    @property
    def init(self) -> Path:
        """Path of the program of each node's first process."""
        return self.owner / "init"

    @property
    def attendant(self) -> Path:
        """Path of the program that observes from inside, for cells that the host cannot see into."""
        return self.owner / "attendant"


@dataclass(frozen=True)
class WardenEnd:
    """How a warden and its cells ended without a request."""

    what: str
    """What happened, in one line."""
    from_outside: bool
    """Whether something outside the run caused it, so that nothing in any cell can be the reason."""


class LeaseClock:
    """When the lease was renewed, by a clock that runs while the host sleeps, and how much the harness worked."""

    def __init__(self, lease_seconds: float) -> None:
        """Start with a beat."""
        self._lease = lease_seconds
        self._last = self._now()
        self._stop = (0.0, 0.0)

    def beat(self) -> None:
        """Record that the lease is renewed now."""
        now = self._now()
        stopped = self._stopped_until(now)
        if stopped:
            self._stop = (stopped, now[0])
        self._last = now

    @property
    def stopped(self) -> float:
        """Seconds for which the harness was just stopped so that its lease ran out; otherwise 0."""
        now = self._now()
        seconds, at = self._stop
        return max(self._stopped_until(now), seconds if now[0] - at < RECENT_SECONDS else 0.0)

    def _stopped_until(self, now: tuple[float, float]) -> float:
        gap, worked = now[0] - self._last[0], now[1] - self._last[1]
        return gap if gap >= self._lease and worked < BUSY_SHARE * gap else 0.0

    @staticmethod
    def _now() -> tuple[float, float]:
        # A kernel without scheduling statistics still tells for how long the process ran.
        return time.clock_gettime(time.CLOCK_BOOTTIME), max(runnable_seconds(os.getpid()), time.process_time())


class Warden:
    """A running warden process and the lease on it.

    A separate thread renews the lease: a busy event loop is not a dead harness, but a stopped process is.
    """

    def __init__(
        self,
        traits: Traits,
        harness: HarnessContext,
        control: socket.socket,
        process: subprocess.Popen[bytes],
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Take over a process that `start_program` started."""
        self.traits = traits
        self.harness = harness
        self._control = control
        self._process = process
        self._clock = LeaseClock(lease_seconds)
        self._end: WardenEnd | None = None
        self._beat_seconds = min(BEAT_SECONDS, lease_seconds / BEATS_OF_LEASE)
        self._sending = threading.Lock()
        self._numbering = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._closing = threading.Event()
        self._beating = threading.Thread(target=self._keep_lease, name="lease", daemon=True)
        self._beating.start()

    @property
    def cells(self) -> Path:
        """The folder that contains a folder for each cell."""
        return self.harness.owner / "cells"

    async def call(
        self, message: Mapping[str, object], fds: Sequence[int] = (), timeout: float = 30.0
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask the warden to carry out one operation.

        Args:
            message: The operation and its arguments.
            fds: Descriptors to pass with it; the caller still owns them.
            timeout: Seconds to wait for the answer.

        Returns:
            The answer and the descriptors that came with it, which the caller must close.

        Raises:
            CellError: The operation failed.
            CellGoneError: The warden is gone.
            TimeoutError: There was no answer in time.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                self._send(message, [*fds, theirs.fileno()])
            ours.setblocking(False)
            try:
                return await receive_reply(ours, timeout)
            except NoAnswerError as error:
                await anyio.sleep(MOMENT)
                if self.is_gone:
                    raise CellGoneError(GONE) from error
                raise

    def number_of(self, program: str) -> int:
        """Return the number by which the warden knows a joined program. Its text is sent once, not with each request.

        Raises:
            CellGoneError: The warden is gone.
        """
        with self._numbering:
            number = self._numbers.get(program)
            if number is None:
                number = len(self._numbers)
                self._send({"op": "program", "number": number, "text": program})
                self._numbers[program] = number
            return number

    def _send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        data, own = encode(message)
        try:
            with self._sending:
                socket.send_fds(self._control, [data], [*own, *fds])
        except OSError as error:
            raise CellGoneError(GONE) from error
        finally:
            close_all(own)

    @property
    def is_gone(self) -> bool:
        """Whether the warden ended without a request. Its cells end with it, since nothing holds their lease."""
        return self._end is not None or (not self._closing.is_set() and self._process.poll() is not None)

    @property
    def is_ending(self) -> bool:
        """Whether the kernel is ending the warden; its children get another parent before it counts as ended."""
        return is_ending(self._process.pid)

    async def ended(self) -> WardenEnd | None:
        """Return how the warden ended without a request; None if it serves.

        A warden whose harness was late may still be ending its cells when the harness runs again and finds the first
        of them gone. So this waits for the warden's end if the lease ran out or a cell has just ended.
        """
        deadline = anyio.current_time() + (END_SECONDS if self._clock.stopped else MOMENT)
        while not self.is_gone and anyio.current_time() < deadline and not self._closing.is_set():
            await anyio.sleep(MOMENT / 2)
        if self._end is None and self.is_gone:
            self._end = self._how_it_ended()
        return self._end

    def _how_it_ended(self) -> WardenEnd:
        stopped, code = self._clock.stopped, self._process.returncode
        if stopped:
            return WardenEnd(f"the harness was stopped for {stopped:.0f} s, longer than its lease", from_outside=True)
        if code == -signal.SIGKILL:
            return WardenEnd("the warden was killed", from_outside=True)
        return WardenEnd(f"the warden ended with status {code}", from_outside=False)

    def _keep_lease(self) -> None:
        """Renew the lease until the warden ends; if it ends without a request, end its cells from here."""
        watch = select.poll()
        watch.register(self._control, select.POLLIN)
        while not watch.poll(1000 * self._beat_seconds):
            self._clock.beat()
            with contextlib.suppress(CellGoneError):
                self._send({"op": "beat"})
        if not self._closing.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is sweeping; a second sweep does no harm
                self._process.wait(CLOSE_TIMEOUT)
            self._end = self._how_it_ended()
            sweep_owner(self.harness.owner)
            with contextlib.suppress(OSError):  # other harnesses have their folders in it
                self.harness.owner.parent.rmdir()

    async def swept(self) -> None:
        """Wait until the cells of a warden that is gone are ended and removed."""
        await anyio.to_thread.run_sync(self._beating.join, CLOSE_TIMEOUT + SWEEP_SECONDS, abandon_on_cancel=True)

    async def wait_until_swept(self) -> None:
        """Wait until nothing is left of a warden that is gone, then close its socket."""
        await self.swept()
        self._control.close()

    async def aclose(self) -> None:
        """End every remaining cell and the warden itself."""
        self._closing.set()
        with contextlib.suppress(OSError):  # the warden is gone
            self._control.shutdown(socket.SHUT_RDWR)
        await anyio.to_thread.run_sync(self._wait)

    def _wait(self) -> None:
        self._process.wait(CLOSE_TIMEOUT)
        self._beating.join(CLOSE_TIMEOUT)
        self._control.close()


def claim_owner() -> Path:
    """Sweep what dead harnesses left and create the folder of this one.

    Raises:
        CellError: There is no room, or the folder cannot be written to.
        UsageError: The folder of cells cannot be made, or belongs to another user.
    """
    in_state_folder(sweep_stale)
    try:
        return in_state_folder(new_owner)
    except OSError as error:
        raise no_room(state_location(), error) from error


def no_room(path: Path, error: OSError) -> CellError:
    """Return the error for a folder of cells that cannot be written to."""
    return CellError(f"cells cannot be made: nothing can be written to {path}: {error.strerror}")


def start_program(program: Path, owner: Path, lease_seconds: float) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start a warden's program and wait until it serves.

    Args:
        program: The program, as `install_warden` wrote it.
        owner: The harness's folder.
        lease_seconds: Silence after which the warden takes the harness for dead.

    Returns:
        The socket on which it serves, and the process.

    Raises:
        CellError: It did not come up.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", program], stdin=theirs.fileno(), start_new_session=True, cwd="/"
        )
    ours.settimeout(START_TIMEOUT)
    try:
        setup = json.loads((owner / SETUP_FILE).read_text())
        setup.update(folder=str(owner), lease_seconds=lease_seconds)
        ours.send(json.dumps(setup).encode())
        if not ours.recv(1 << 10):
            raise CellError("the warden ended at its start")
    except OSError as error:
        _end(process)
        raise CellError(f"the warden did not come up: {error}") from error
    except CellError:
        _end(process)
        raise
    # The socket of a stopped warden fills up at some point, which must not stop the harness too.
    ours.settimeout(SEND_SECONDS)
    return ours, process


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a warden that did not come up; it has no cell yet."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CLOSE_TIMEOUT)


def is_root() -> bool:
    """Return whether this harness can make cgroups and claim any id range."""
    return os.geteuid() == 0
