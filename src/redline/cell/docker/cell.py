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
from redline.cell.cell import HOSTNAMES, REMOVE_TIMEOUT, Cell, Node, ProcessRef, SpecPatch
from redline.cell.command import EXHAUSTED, KILLED, CommandTimeoutError, Completed
from redline.cell.config import CellConfig
from redline.cell.docker.compose import Place, compose_services, require_closed_services, write_compose_file
from redline.cell.docker.engine import LABEL_CELL, is_of_container
from redline.cell.docker.image import CALL_PROGRAM
from redline.cell.docker.warden import DockerWarden
from redline.cell.errors import CellError, CellGoneError, ExhaustedError
from redline.cell.folders import make_folder
from redline.cell.programs.warden import start_time
from redline.cell.spec import ATTENDANT_PROGRAM, IdMaps
from redline.cell.warden import Warden

SPARE_SECONDS = 15.0
"""What the engine may take beside a command's own time before the call is given up."""

KILL_TIMEOUT = 10.0
CLIENT_SECONDS = 5.0
PROJECT = "cell"
STATUS_ROOM = 1 << 16

FIRST_PROCESS = """
def main(request, fds):
    with open("/proc/1/stat", "rb") as file:
        return {"start": int(file.read().rpartition(b")")[2].split()[19])}, []
"""


class DockerCell(Cell):
    """A cell on Docker. What a caller meets is what it meets in every cell; `observer` is `inside`."""

    _warden: DockerWarden

    def __init__(self, cell_id: str, config: CellConfig, warden: DockerWarden) -> None:
        """Describes a cell that has no node yet."""
        super().__init__(cell_id, config, warden, IdMaps((), ()))
        self.rootless = False  # the engine bounds memory, processes and processor time for every user
        self._environments: dict[str, SandboxEnvironment] = {}
        self._clients: list[subprocess.Popen[bytes]] = []

    @classmethod
    async def make(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> "DockerCell":
        """Makes a cell; see `Cell.start`. What `patch` changes is a service of the compose file.

        Raises:
            CellError: The engine refused.
        """
        assert isinstance(warden, DockerWarden)
        cell = cls(secrets.token_hex(4), config, warden)
        make_folder(cell.folder)
        try:
            await cell._start(patch)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await cell.remove()
            raise
        return cell

    async def _start(self, patch: SpecPatch | None) -> None:
        harness, docker = self._warden.harness, self._warden.docker
        place = Place(harness.owner.parent, harness.owner.name, self.id, docker.seccomp)
        services = compose_services(self.config, docker.image, place, HOSTNAMES["default"])
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
        """Has the engine start the attendant, which alone gets the powers to look and to install."""
        lease = self._warden.docker.lease_seconds
        process = subprocess.Popen(
            [
                *(self._warden.docker.engine.program, "exec", "--interactive", "--privileged", "--user", "0:0"),
                *(container, self.interpreter, "-I", "-S", ATTENDANT_PROGRAM, node, str(lease)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the harness, which then ends the cell in order
        )
        self._clients.append(process)
        assert process.stdin is not None and process.stdout is not None
        attendant = Attendant(node, _taken(process.stdout), _taken(process.stdin), lease)
        self._attendants[node] = attendant
        await attendant.ready()
        answer, _ = await attendant.join(FIRST_PROCESS, {})
        outside = await anyio.to_thread.run_sync(self._outside, container, node, abandon_on_cancel=True)
        return Node(node, ProcessRef(1, answer["start"], node), outside, self.folder, socket.socket(socket.AF_UNIX))

    def _outside(self, container: str, node: str) -> ProcessRef | None:
        """The node's first process as this machine knows it, None where the engine runs elsewhere."""
        pid = self._warden.docker.engine.first_process(container)
        start = start_time(pid)
        return None if start is None or not is_of_container(pid, container) else ProcessRef(pid, start, node)

    @property
    def remaps_users(self) -> bool:
        """Whether root of the cell is nobody on the machine, which an engine does not see to unless told."""
        return self._warden.docker.remaps_users

    @property
    def has_freezer(self) -> bool:
        """No: a paused container lets nobody in, and its first version of cgroups holds back even SIGKILL."""
        return False

    # --- what happens inside ---

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
        """Runs one operation by the provider's own `exec`, as root of the cell, which becomes who is asked for."""
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
                    # Its time is kept inside, and an engine's retry would run the command twice.
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
        """Ends a call that nobody waits for any more, with all that it started."""
        with anyio.move_on_after(KILL_TIMEOUT):
            try:
                await self._call(node, {"op": "kill", "token": token}, b"", secrets.token_hex(8), 0)
            except CellError:
                return  # what cannot be entered is ended by the attendant, at the latest with the cell

    # --- what is done from outside ---

    def responsive(self) -> bool:
        """Whether every node's attendant still serves; it ends when the first process does."""
        return self.alive and all(attendant.is_serving for attendant in self._attendants.values())

    async def kill(self) -> float:
        """Kills everything in the cell; see `Cell.kill`. The attendants need no engine for it, so they come first."""
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
        """Kills the cell, closes what was attached to it and removes all that it left in the engine."""
        try:
            await super()._close()
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
    """What `programs/call.py` wrote."""

    def __init__(self, status: dict[str, Any], stdout: bytes, stderr: bytes) -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr

    @classmethod
    def read(cls, text: str) -> "_Reply | None":
        """Reads the reply. None where there is none: the program could not run, or was cut off."""
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


def _taken(pipe: IO[bytes]) -> int:
    """A descriptor of a pipe's end that belongs to the caller alone."""
    with pipe:
        return os.dup(pipe.fileno())


def _end(client: "subprocess.Popen[bytes]") -> None:
    try:
        client.wait(CLIENT_SECONDS)
    except subprocess.TimeoutExpired:
        client.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel has not let go of it: init reaps it later
            client.wait(CLIENT_SECONDS)
