"""A cell whose nodes are containers of a Docker engine, made by Inspect's own docker provider."""

import base64
import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import anyio
import anyio.to_thread
from inspect_ai.util import SandboxEnvironment, SandboxUnavailableError
from inspect_ai.util._sandbox.docker.docker import DockerSandboxEnvironment
from inspect_ai.util._sandbox.limits import override_max_exec_output_size

from redline.cell.attendant import Attendant
from redline.cell.cell import FIND_PROCESS, REMOVE_TIMEOUT, SpecPatch
from redline.cell.command import EXHAUSTED, KILLED, CommandTimeoutError, Completed
from redline.cell.config import CellConfig
from redline.cell.docker.compose import CellOrigin, compose_services, require_closed_services, write_compose_file
from redline.cell.docker.engine import LABEL_CELL, is_of_container
from redline.cell.docker.image import CALL_PROGRAM
from redline.cell.docker.warden import DockerWarden
from redline.cell.errors import CellError, CellGoneError, ExhaustedError
from redline.cell.folders import make_folder
from redline.cell.inside import InsideCell
from redline.cell.load import load_program
from redline.cell.node import Node, ProcessRef
from redline.cell.programs.prelude import start_time
from redline.cell.spec import ATTENDANT_PROGRAM, HOSTNAMES
from redline.cell.warden import Warden

SPARE_SECONDS = 15.0
"""Time that a call of the engine may take in addition to the command's own time."""

KILL_TIMEOUT = 10.0
CLIENT_SECONDS = 5.0
PROJECT = "cell"
STATUS_ROOM = 1 << 16


class DockerCell(InsideCell):
    """A cell on Docker."""

    _warden: DockerWarden

    def __init__(self, cell_id: str, config: CellConfig, warden: DockerWarden) -> None:
        """Initialise a cell that has no node yet."""
        super().__init__(cell_id, config, warden)
        self._environments: dict[str, SandboxEnvironment] = {}
        self._clients: list[subprocess.Popen[bytes]] = []

    @classmethod
    async def start(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> "DockerCell":
        """Make a cell. `patch` changes a service of the compose file.

        Raises:
            CellError: The engine refused.
        """
        assert isinstance(warden, DockerWarden)
        cell = cls(secrets.token_hex(4), config, warden)
        make_folder(cell.folder)
        try:
            await cell._start_nodes(patch)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await cell.remove()
            raise
        return cell

    async def _start_nodes(self, patch: SpecPatch | None) -> None:
        harness, docker = self._warden.harness, self._warden.docker
        origin = CellOrigin(harness.owner.parent, harness.owner.name, self.id, docker.seccomp)
        services = compose_services(self.config, docker.image, origin, HOSTNAMES["default"])
        if patch is not None:
            services = {name: patch(service, name) for name, service in services.items()}
        require_closed_services(services)
        file = write_compose_file(self.folder, services)
        request = {"op": "start", "cell": self.id, "shares": False, "wall_seconds": self.config.wall_seconds}
        await self._warden.call(request)
        try:
            self._environments = await DockerSandboxEnvironment.sample_init(PROJECT, str(file), {})
        except (RuntimeError, TimeoutError) as error:
            raise CellError(f"the Docker engine made no cell: {error}") from error
        containers = await anyio.to_thread.run_sync(self._containers, abandon_on_cancel=True)
        for name in self.config.nodes:
            self.nodes[name] = await self._start_attendant_of(name, containers[name])

    def _containers(self) -> dict[str, str]:
        found = self._warden.docker.engine.containers([(LABEL_CELL, self.id)])
        return {service: identifier for identifier, _, service in found}

    async def _start_attendant_of(self, node: str, container: str) -> Node:
        """Have the engine start the attendant, which alone gets the capabilities to inspect and to install."""
        lease = self._warden.docker.lease_seconds
        process = subprocess.Popen(
            [
                *(self._warden.docker.engine.program, "exec", "--interactive", "--privileged", "--user", "0:0"),
                *(container, self.interpreter, "-I", "-S", ATTENDANT_PROGRAM, node, str(lease)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach only the harness, which then ends the cell in order
        )
        self._clients.append(process)
        assert process.stdin is not None and process.stdout is not None
        attendant = Attendant(node, _owned(process.stdout), _owned(process.stdin), lease)
        self._attendants[node] = attendant
        await attendant.ready()
        answer, _ = await attendant.join(load_program(FIND_PROCESS), {"inside": [1]})
        outside = await anyio.to_thread.run_sync(self._outside, container, node, abandon_on_cancel=True)
        return Node(
            node, ProcessRef(1, answer["found"][0][1], node), outside, self.folder, socket.socket(socket.AF_UNIX)
        )

    def _outside(self, container: str, node: str) -> ProcessRef | None:
        """Return the node's first process as this host sees it; None if the engine runs on another host."""
        pid = self._warden.docker.engine.first_process(container)
        start = start_time(pid)
        return None if start is None or not is_of_container(pid, container) else ProcessRef(pid, start, node)

    @property
    def remaps_users(self) -> bool:
        """Whether root of the cell has no rights on the host, which is an option of the engine."""
        return self._warden.docker.remaps_users

    # --- operations inside ---

    async def _command(
        self, node: str, request: Mapping[str, object], given: bytes, timeout: float | None, limit: int
    ) -> Completed:
        self._node(node)
        token = secrets.token_hex(8)
        body = {**request, "timeout": timeout, "limit": limit}
        try:
            with anyio.move_on_after(None if timeout is None else timeout + SPARE_SECONDS) as scope:
                return _completed(await self._call(node, body, given, token, limit))
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._give_up(node, token)
            raise
        assert scope.cancelled_caught
        await self._give_up(node, token)
        raise TimeoutError(f"the engine did not end a command of {timeout} s in time")

    async def _call(self, node: str, body: Mapping[str, object], given: bytes, token: str, limit: int) -> "_Reply":
        """Run one operation by the provider's `exec`, as root of the cell, which then becomes the requested user."""
        header = json.dumps(body).encode()
        room = 2 * (limit + limit // 2) + STATUS_ROOM  # both outputs in base64
        command = [self.interpreter, "-I", "-S", CALL_PROGRAM, token]
        try:
            with override_max_exec_output_size(room):
                done = await self._environments[node].exec(
                    command,
                    input=len(header).to_bytes(4, "big") + header + given,
                    cwd="/",
                    user="0:0",
                    # The program inside keeps its time, and a retry by the provider would run the command twice.
                    timeout=None,
                    timeout_retry=False,
                    concurrency=False,
                )
        except SandboxUnavailableError as error:
            raise CellGoneError("the node is not running") from error
        except PermissionError as error:
            raise CellError(f"the engine could not start a process in the node: {error}") from error
        reply = _Reply.read(done.stdout)
        if reply is None:
            if not (self.alive and self._attendants[node].is_serving):
                raise CellGoneError("the node ended while the command ran")
            raise CellError(f"the node can start no process: {(done.stderr or done.stdout).strip()[-500:]}")
        return reply

    async def _give_up(self, node: str, token: str) -> None:
        """End an abandoned call, with everything that it started."""
        with anyio.move_on_after(KILL_TIMEOUT):
            try:
                await self._call(node, {"op": "kill", "token": token}, b"", secrets.token_hex(8), 0)
            except CellError:
                return  # a node that admits no process is ended by the attendant, at the latest with the cell

    # --- operations from outside ---

    def responsive(self) -> bool:
        """Return whether every node's attendant still serves; it ends when the first process does."""
        return self.alive and all(attendant.is_serving for attendant in self._attendants.values())

    async def kill(self) -> float:
        """Kill everything in the cell; see `Cell.kill`. The attendants need no engine for it, so they come first."""
        begun = time.monotonic()
        if self.alive:
            for attendant in self._attendants.values():
                try:
                    await attendant.signal(signal.SIGKILL)
                except (CellError, OSError, TimeoutError):
                    continue  # the engine does it
        await super().kill()
        return time.monotonic() - begun

    async def remove(self) -> None:
        """Kill the cell, close what is attached to it and remove everything that it left in the engine."""
        try:
            await self._close()
        finally:
            for client in self._clients:
                await anyio.to_thread.run_sync(_end, client, abandon_on_cancel=True)
            self._clients.clear()
            environments, self._environments = self._environments, {}
            if environments:
                await DockerSandboxEnvironment.sample_cleanup(PROJECT, None, environments, interrupted=False)
            if self.folder.exists():
                await self._warden.call({"op": "remove", "cell": self.id}, timeout=REMOVE_TIMEOUT)


class _Reply:
    """The reply of `programs/call.py`."""

    def __init__(self, status: dict[str, Any], stdout: bytes, stderr: bytes) -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr

    @classmethod
    def read(cls, text: str) -> "_Reply | None":
        """Parse a reply; None if there is none, since the program could not run or was interrupted."""
        outputs = {"o": bytearray(), "e": bytearray()}
        for kind, line in _lines(text):
            if kind == "s":
                return cls(json.loads(line), bytes(outputs["o"]), bytes(outputs["e"]))
            if kind in outputs:
                outputs[kind] += base64.b64decode(line)
        return None


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        yield kind, rest


def _completed(reply: _Reply) -> Completed:
    status = reply.status
    if "error" in status:
        fault = ExhaustedError if status["error"] in EXHAUSTED else CellError
        raise fault(f"the node can start no process: {os.strerror(status['error'])}")
    if status["late"]:
        done = Completed(KILLED, reply.stdout, reply.stderr, status["truncated"])
        raise CommandTimeoutError("the command took longer than it may", done)
    if status["refused"] == errno.EACCES:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "the command")
    code = status["returncode"]
    return Completed(code if code >= 0 else 128 - code, reply.stdout, reply.stderr, status["truncated"])


def _owned(pipe: IO[bytes]) -> int:
    """Return a descriptor of a pipe's end that only the caller owns."""
    with pipe:
        return os.dup(pipe.fileno())


def _end(client: "subprocess.Popen[bytes]") -> None:
    try:
        client.wait(CLIENT_SECONDS)
    except subprocess.TimeoutExpired:
        client.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it is stuck in the kernel: init reaps it later
            client.wait(CLIENT_SECONDS)
