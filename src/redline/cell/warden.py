"""The harness's side of the warden: the small process outside that makes cells and ends them whatever happens."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from redline.cell.errors import CellError, CellGoneError, NoAnswerError
from redline.cell.machine import Toolset, toolset
from redline.cell.messages import close_all, encode, receive_reply
from redline.cell.runtime import Runtime
from redline.cell.skeleton import build_skeleton
from redline.cell.state import SWEEP_SECONDS, new_owner, state_folder, sweep_owner, sweep_stale

LEASE_SECONDS = 4.0
"""A harness that says nothing for so long is taken for dead; with the kill it makes less than five seconds."""

BEAT_SECONDS = 0.5
BEATS_OF_LEASE = 4
MOMENT = 0.05
"""Seconds in which the end of a process shows, after its sockets have closed."""

IDLE_SHARE = 0.5
"""A harness that neither ran nor waited for a processor in more than this share of the time between two renewals was
stopped: by a signal, by Ctrl-Z, by swapping or with the whole machine. Otherwise it was busy by its own doing."""

END_SECONDS = 10.0
"""So long a warden that found its harness late may take to end its cells and itself."""

RECENT_SECONDS = 20.0
"""So long after the harness went on, its stop can be why its warden ends."""

START_TIMEOUT = 20.0
CLAIM_TRIES = 20
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
        """The program of each node's first process."""
        return self.owner / "init"

    @property
    def attendant(self) -> Path:
        """The program that works inside where the machine cannot see in."""
        return self.owner / "attendant"


@dataclass(frozen=True)
class WardenEnd:
    """How a warden ended that was not told to, and its cells with it."""

    what: str
    """What happened, in one line."""
    from_outside: bool
    """Whether something outside of the run did it, so that nothing in any cell can be the reason."""


class LeaseClock:
    """When the lease was renewed, by a clock that goes on while the machine sleeps, and how much the harness worked."""

    def __init__(self, lease_seconds: float) -> None:
        """Start with a beat."""
        self._lease = lease_seconds
        self._last = self._now()
        self._stop = (0.0, 0.0)

    def beat(self) -> None:
        """Note that the lease is renewed now."""
        now = self._now()
        stopped = self._stopped_until(now)
        if stopped:
            self._stop = (stopped, now[0])
        self._last = now

    @property
    def stopped(self) -> float:
        """For how long the harness was stopped and the lease ran out, where that was just now; else 0."""
        now = self._now()
        seconds, at = self._stop
        return max(self._stopped_until(now), seconds if now[0] - at < RECENT_SECONDS else 0.0)

    def _stopped_until(self, now: tuple[float, float]) -> float:
        gap, worked = now[0] - self._last[0], now[1] - self._last[1]
        return gap if gap >= self._lease and worked < IDLE_SHARE * gap else 0.0

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.clock_gettime(time.CLOCK_BOOTTIME), runnable_seconds()


def runnable_seconds() -> float:
    """Seconds in which threads of this process ran or waited for a processor, summed over those that live.

    On a machine that is loaded, a busy process is given only a small share of a processor, but it always waits for one.
    A stopped process does not. A kernel without scheduling statistics tells only how long it ran.
    """
    total = 0
    for schedstat in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            ran, waited, _ = map(int, schedstat.read_bytes().split())
            total += ran + waited
    return max(total / 1e9, time.process_time())


class Warden:
    """A running warden process and the lease on it.

    The lease is renewed from a thread of its own: a busy event loop is not a dead harness, a stopped process is.
    """

    def __init__(
        self,
        runtime: Runtime,
        harness: HarnessContext,
        control: socket.socket,
        process: subprocess.Popen[bytes],
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Takes over a process that `start` made."""
        self.runtime = runtime
        self.harness = harness
        self._control = control
        self._process = process
        self._clock = LeaseClock(lease_seconds)
        self._end: WardenEnd | None = None
        self._beat_seconds = min(BEAT_SECONDS, lease_seconds / BEATS_OF_LEASE)
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._beating = threading.Thread(target=self._keep_lease, name="lease", daemon=True)
        self._beating.start()

    @classmethod
    def start(cls, runtime: Runtime, lease_seconds: float = LEASE_SECONDS) -> "Warden":
        """Sweeps what dead harnesses left, makes this harness's folder and starts its warden.

        Args:
            runtime: What makes the cells.
            lease_seconds: A harness that says nothing for so long is taken for dead. Shorter in drills.

        Raises:
            UsageError: This user can make no cells here.
            CellError: The warden did not come up.
        """
        if runtime.name == "docker":
            from redline.cell.docker.warden import DockerWarden

            return DockerWarden.begin(runtime, lease_seconds)
        owner = claim_owner(runtime)
        command = runtime.command(owner)
        tools = toolset()
        try:
            (owner / "runtime").write_text("\0".join(command))
            root = build_skeleton(owner, tools)
            program = Path(str(files("redline.cell").joinpath("programs/warden.py")))
            control, process = start_program(program, owner, command, lease_seconds)
        except (OSError, CellError) as error:
            shutil.rmtree(owner, ignore_errors=True)
            raise no_room(owner, error) if isinstance(error, OSError) else error from None
        return cls(runtime, HarnessContext(owner, root, tools), control, process, lease_seconds)

    @property
    def cells(self) -> Path:
        """The folder that holds a folder for each cell."""
        return self.harness.owner / "cells"

    async def call(
        self, message: Mapping[str, object], fds: Sequence[int] = (), timeout: float = 30.0
    ) -> tuple[dict[str, Any], list[int]]:
        """Has the warden carry out one operation.

        Args:
            message: The operation and its arguments.
            fds: Descriptors that go with it; they stay the caller's.
            timeout: Seconds to wait for the answer.

        Returns:
            The answer and the descriptors that came with it, which are the caller's to close.

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
        """Whether the warden ended before it was told to. Its cells are ended then, as nobody holds their lease."""
        return self._end is not None or (not self._closing.is_set() and self._process.poll() is not None)

    async def ended(self) -> WardenEnd | None:
        """How the warden ended that was not told to; None if it serves.

        One that found its harness late may still be ending its cells when the harness, running again, meets the first
        that is gone. So where the lease ran out, or a cell was just seen to end, its end is waited for.
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
        """Renews the lease until the warden ends, which it does when told to; else its cells are ended from here."""
        watch = select.poll()
        watch.register(self._control, select.POLLIN)
        while not watch.poll(1000 * self._beat_seconds):
            self._clock.beat()
            with contextlib.suppress(CellGoneError):
                self._send({"op": "beat"})
        if not self._closing.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is at its own sweep, which another may join
                self._process.wait(CLOSE_TIMEOUT)
            self._end = self._how_it_ended()
            sweep_owner(self.harness.owner, [str(self.runtime.program)])
            with contextlib.suppress(OSError):  # other harnesses have theirs in it
                self.harness.owner.parent.rmdir()

    async def swept(self) -> None:
        """Waits until the cells of a warden that is gone are ended and removed."""
        await anyio.to_thread.run_sync(self._beating.join, CLOSE_TIMEOUT + SWEEP_SECONDS, abandon_on_cancel=True)

    async def bury(self) -> None:
        """Wait until nothing is left of a warden that is gone, and release what is held for it."""
        await self.swept()
        self._control.close()

    async def aclose(self) -> None:
        """Ends every cell that is left and the warden itself."""
        self._closing.set()
        with contextlib.suppress(OSError):  # the warden is gone
            self._control.shutdown(socket.SHUT_RDWR)
        await anyio.to_thread.run_sync(self._wait)

    def _wait(self) -> None:
        self._process.wait(CLOSE_TIMEOUT)
        self._beating.join(CLOSE_TIMEOUT)
        self._control.close()


def claim_owner(runtime: Runtime) -> Path:
    """Sweeps what dead harnesses left and makes this one's folder."""
    for _ in range(CLAIM_TRIES):
        with contextlib.suppress(FileNotFoundError):  # the last harness to end removes the state folder
            state = state_folder()
            sweep_stale(state, [str(runtime.program)])
            try:
                return new_owner(state)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise no_room(state, error) from error
    raise CellError("the folder for cells disappears again and again: other harnesses end at every try")


def no_room(place: Path, error: OSError) -> CellError:
    """What to tell where the folder for cells cannot be written to."""
    return CellError(f"cells cannot be made: nothing can be written to {place}: {error.strerror}")


def start_program(
    program: Path, owner: Path, command: Sequence[str], lease_seconds: float
) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Starts a warden's program and waits until it serves.

    Returns:
        The socket on which it listens, and the process.

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
        setup = {"folder": str(owner), "runtime": list(command), "lease_seconds": lease_seconds}
        ours.send(json.dumps(setup).encode())
        if not ours.recv(1 << 10):
            raise CellError("the warden ended at its start")
    except OSError as error:
        _end(process)
        raise CellError(f"the warden did not come up: {error}") from error
    except CellError:
        _end(process)
        raise
    # A warden that is stopped takes no more messages at some point: that must not stop the harness too.
    ours.settimeout(SEND_SECONDS)
    return ours, process


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a warden that did not come up; it has no cell yet."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CLOSE_TIMEOUT)


def is_root() -> bool:
    """Whether this harness may make cgroups and any id range."""
    return os.geteuid() == 0
