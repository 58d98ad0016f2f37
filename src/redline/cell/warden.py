"""The harness's side of the warden: the small process outside that makes cells and ends them whatever happens."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio.to_thread

from redline.cell.errors import CellError, CellGoneError
from redline.cell.machine import Toolset, toolset
from redline.cell.messages import close_all, encode, receive_reply
from redline.cell.runtime import Runtime
from redline.cell.skeleton import build_skeleton
from redline.cell.state import new_owner, state_folder, sweep_stale

LEASE_SECONDS = 4.0
"""A harness that says nothing for so long is taken for dead; with the kill it makes less than five seconds."""

BEAT_SECONDS = 0.5
START_TIMEOUT = 20.0
CLAIM_TRIES = 20
CLOSE_TIMEOUT = 60.0


@dataclass(frozen=True)
class Ground:
    """What all cells of a harness share."""

    owner: Path
    root: Path
    tools: Toolset

    @property
    def init(self) -> Path:
        """The program of each host's first process."""
        return self.owner / "init"

    @property
    def attendant(self) -> Path:
        """The program that works inside where the machine cannot see in."""
        return self.owner / "attendant"


class Warden:
    """A running warden process and the lease on it.

    The lease is renewed from a thread of its own: a busy event loop is not a dead harness, a stopped process is.
    """

    def __init__(
        self, runtime: Runtime, ground: Ground, control: socket.socket, process: subprocess.Popen[bytes]
    ) -> None:
        """Takes over a process that `start` made."""
        self.runtime = runtime
        self.ground = ground
        self._control = control
        self._process = process
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)
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
        (owner / "runtime").write_text("\0".join(command))
        tools = toolset()
        root = build_skeleton(owner, tools)
        program = Path(str(files("redline.cell").joinpath("programs/warden.py")))
        control, process = start_program(program, owner, command, lease_seconds)
        return cls(runtime, Ground(owner, root, tools), control, process)

    @property
    def cells(self) -> Path:
        """The folder that holds a folder for each cell."""
        return self.ground.owner / "cells"

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
            return await receive_reply(ours, timeout)

    def _send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        data, own = encode(message)
        try:
            with self._sending:
                socket.send_fds(self._control, [data], [*own, *fds])
        except OSError as error:
            raise CellGoneError("the warden is gone, and its cells with it") from error
        finally:
            close_all(own)

    def _beat(self) -> None:
        while not self._closing.wait(BEAT_SECONDS):
            with contextlib.suppress(CellGoneError):
                self._send({"op": "beat"})

    async def aclose(self) -> None:
        """Ends every cell that is left and the warden itself."""
        self._closing.set()
        self._control.close()
        await anyio.to_thread.run_sync(self._wait)

    def _wait(self) -> None:
        self._process.wait(CLOSE_TIMEOUT)
        self._beating.join()


def claim_owner(runtime: Runtime) -> Path:
    """Sweeps what dead harnesses left and makes this one's folder."""
    for _ in range(CLAIM_TRIES):
        with contextlib.suppress(FileNotFoundError):  # the last harness to end removes the state folder
            state = state_folder()
            sweep_stale(state, [str(runtime.program)])
            return new_owner(state)
    raise CellError("the folder for cells disappears again and again: other harnesses end at every try")


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
        raise CellError(f"the warden did not come up: {error}") from error
    ours.setblocking(True)
    return ours, process


def is_root() -> bool:
    """Whether this harness may make cgroups and any id range."""
    return os.geteuid() == 0
