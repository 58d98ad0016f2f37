"""The cell: one or more sealed nodes, and every operation on them from outside."""

import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from redline.cell.attendant import Attendant
from redline.cell.command import Completed, agent_environment, as_arguments, run_command
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.load import load_program
from redline.cell.node import Node, ProcessRef
from redline.cell.programs.prelude import is_running
from redline.cell.spec import HOME
from redline.cell.traits import Observer, Traits
from redline.cell.warden import HarnessContext, Warden, WardenEnd, is_root

User = Literal["agent", "root"]
T = TypeVar("T")

SpecPatch = Callable[[dict[str, Any], str], dict[str, Any]]
"""Function from the specification of a node and the node's name to a changed specification."""

DEFAULT_OUTPUT = 10 << 20
START_TIMEOUT = 60.0
REMOVE_TIMEOUT = 60.0
FIND_PROCESS = "redline.cell.programs.find_process"


@runtime_checkable
class Closable(Protocol):
    """Something attached to a cell that must be closed with it."""

    async def aclose(self) -> None:
        """Release its resources."""


class Cell(ABC):
    """A sealed cell. Made by `open_cell` or by the Inspect provider, never directly.

    How a cell is observed from outside is the subclass's: `OutsideCell` where the host sees its processes and files,
    `InsideCell` where only a program in the cell does. How its nodes are made is that of its runtime.
    """

    observer: ClassVar[Observer]

    def __init__(self, cell_id: str, config: CellConfig, warden: Warden) -> None:
        """Initialise a cell that has no node yet."""
        self.id = cell_id
        self.config = config
        self.runtime = warden.traits.name
        self.rootless = not is_root() and not warden.traits.bounds_without_root
        self.nodes: dict[str, Node] = {}
        self.alive = True
        self.halted: str | None = None
        """Reason for which an alarm stopped the cell: while it is set, no command starts and nothing thaws."""
        self._warden = warden
        self._attached: dict[type, object] = {}

    @property
    def traits(self) -> Traits:
        """Traits of the runtime that made the cell."""
        return self._warden.traits

    @property
    def folder(self) -> Path:
        """The cell's folder outside."""
        return self._warden.cells / self.id

    @property
    def harness(self) -> HarnessContext:
        """What all cells of this harness share."""
        return self._warden.harness

    @property
    def interpreter(self) -> str:
        """Path of the Python inside."""
        return self._warden.harness.tools.interpreter

    @property
    def cgroup(self) -> str:
        """Name of the cgroup that holds all nodes, below the root of each hierarchy."""
        return f"pod-{self._warden.harness.owner.name}-{self.id}"

    @property
    def has_freezer(self) -> bool:
        """Whether the host can freeze the cell as a whole."""
        if not self.traits.freezer:
            return False
        roots = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
        return any((root / self.cgroup / "cgroup.freeze").exists() for root in roots)

    def attendant(self, node: str) -> Attendant:
        """Return the attendant of a node of a cell that is observed from inside.

        Raises:
            CellError: There is none.
        """
        raise CellError(f"node {node} of this cell has no attendant")

    # --- operations inside ---

    async def exec(
        self,
        cmd: Sequence[str],
        *,
        node: str = "default",
        user: User = "agent",
        input: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        output_limit: int = DEFAULT_OUTPUT,
    ) -> Completed:
        """Run a command in a node.

        The call returns when the main process ends, even if a daemon that it started keeps the pipes open.

        Args:
            cmd: Program and arguments; the program is found by the PATH inside.
            node: The node to run it in.
            user: `agent` is uid 1000; `root` is uid 0 of the cell. Neither has a capability.
            input: Standard input.
            cwd: Working folder, the user's home by default.
            env: Variables in addition to PATH, HOME, LANG and TERM.
            timeout: Seconds after which it and its descendants are killed.
            output_limit: Bytes kept of the tail of each output.

        Returns:
            Its return code and outputs.

        Raises:
            TimeoutError: It took longer than `timeout`.
            CellGoneError: The node is not running.
            CellError: The node can start no more processes.
        """
        return await self._command(
            node, self._request("exec", user, cwd, env, as_arguments(cmd)), input, timeout, output_limit
        )

    async def run_text(
        self, text: str, *, node: str = "default", timeout: float, output_limit: int = DEFAULT_OUTPUT
    ) -> Completed:
        """Run a Python program of redline's own in `/` as the agent, without the start of an interpreter.

        It runs in a fork of the node's first process, with the rights, limits, filters, descriptors and variables of a
        command. Only the interpreter is the first process's, and as its user has changed, no other process of the agent
        can reach its memory.

        Args:
            text: Text of the program.
            node: The node to run it in.
            timeout: Seconds after which it and its descendants are killed.
            output_limit: Bytes kept of the tail of each output.

        Returns:
            Its outputs, and the return code: 0, or 1 if it raised an error, which is in its errors.

        Raises:
            TimeoutError: It took longer.
            CellGoneError: The node is not running.
            CellError: The node could start no process.
        """
        request = {**self._request("text", "agent", "/", None, []), "text": text}
        return await self._command(node, request, b"", timeout, output_limit)

    async def spawn(
        self,
        cmd: Sequence[str],
        *,
        node: str = "default",
        user: User = "agent",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ProcessRef:
        """Start a daemon that outlives the call.

        Its parent is the node's first process, its input and outputs are /dev/null.

        Returns:
            The process as the observer of the cell sees it.

        Raises:
            CellGoneError: The node is not running.
            CellError: It did not start.
        """
        (started,) = await self.spawn_all([(cmd, env)], node=node, user=user, cwd=cwd)
        return started

    async def spawn_all(
        self,
        commands: Sequence[tuple[Sequence[str], Mapping[str, str] | None]],
        *,
        node: str = "default",
        user: User = "agent",
        cwd: str | None = None,
    ) -> list[ProcessRef]:
        """Start daemons in their order as `spawn` does, each with its variables; return them and raise as it does."""
        pids = []
        for cmd, env in commands:
            request = self._request("spawn", user, cwd, env, as_arguments(cmd))
            done = await self._command(node, request, b"", START_TIMEOUT, 1 << 12)
            if done.returncode != 0:
                raise CellError(f"{cmd[0]} did not start: {done.stderr.decode(errors='replace')}")
            pids.append(int(done.stdout))
        program, request = load_program(FIND_PROCESS), {"node": node, "inside": pids}
        answer, _ = await self.run_with_cell_privileges(program, request, node=node)
        return [ProcessRef(pid, start, node) for pid, start in answer["found"]]

    async def read_file(
        self, path: str, *, node: str = "default", user: User = "agent", cwd: str | None = None, limit: int
    ) -> bytes:
        """Read a file of a node with the user's rights.

        Raises:
            OSError: Opening or reading it failed inside.
            OverflowError: It is larger than `limit` bytes.
        """
        request = {**self._request("read", user, cwd, None, []), "path": path, "limit": limit}
        done = await self._command(node, request, b"", None, limit + 1)
        _raise_file_error(done, path)
        if len(done.stdout) > limit:
            raise OverflowError(f"{path} is larger than {limit} bytes")
        return done.stdout

    async def write_file(
        self, path: str, contents: bytes, *, node: str = "default", user: User = "agent", cwd: str | None = None
    ) -> None:
        """Write a file of a node with the user's rights, creating the folders above it.

        Raises:
            OSError: Opening or writing it failed inside.
        """
        request = {**self._request("write", user, cwd, None, []), "path": path}
        _raise_file_error(await self._command(node, request, contents, None, 1 << 12), path)

    def _request(
        self, op: str, user: User, cwd: str | None, env: Mapping[str, str] | None, command: list[str]
    ) -> dict[str, object]:
        home = HOME if user == "agent" else "/"
        return {
            "op": op,
            "user": user,
            "cwd": cwd or home,
            "env": agent_environment(home, self._warden.harness.tools.path, env),
            "command": command,
        }

    async def _command(
        self, node: str, request: Mapping[str, object], given: bytes, timeout: float | None, limit: int
    ) -> Completed:
        return await run_command(self._node(node).control, request, given, timeout, limit)

    def _node(self, name: str) -> Node:
        if not self.alive:
            raise CellGoneError("the cell is not running")
        if self.halted is not None:
            raise CellGoneError(f"the cell was stopped: {self.halted}")
        try:
            return self.nodes[name]
        except KeyError:
            raise CellError(f"the cell has no node {name}: it has {', '.join(self.nodes)}") from None

    # --- operations from outside ---

    @abstractmethod
    async def run_with_cell_privileges(
        self,
        program: str,
        request: Mapping[str, object],
        *,
        held: Sequence[int] = (),
        data: bytes | None = None,
        timeout: float = 30.0,
        node: str = "default",
    ) -> tuple[dict[str, Any], list[int]]:
        """Run a program outside the cell with all capabilities over the cell and none over the host.

        The program sees the host's /proc, whether the harness is root or not. A flaw in its parsing of an agent's
        files can harm no more than the cell. If the host cannot see into the cell (`observer` is `inside`), the
        program runs in one node as the cell's root, and sees what that node sees.

        Args:
            program: Source text for the standard library only; see `load_program`. It defines `main(request, fds)`,
                which returns a dictionary for JSON and a list of descriptors. It can call `openat2_in_root(root_fd,
                path, flags, mode=0)`, `join_namespace(fd, kind)`, `is_running(pid, start)`, `stat_fields(pid)` and
                `cell_processes(inits)`, which yields (node, pid) of every process of the cell.
            request: Its argument; `inits` (node to pid of its first process) is added.
            held: Descriptors from an earlier answer, to be passed to it.
            data: Bytes that it gets as a file, the last of its descriptors.
            timeout: Seconds after which it is killed.
            node: The node that it runs in, if it runs inside.

        Returns:
            Its answer, and its descriptors, which the caller must give back with `release`.

        Raises:
            CellError: It raised.
            TimeoutError: It took too long.
        """

    @abstractmethod
    async def release(self, held: Sequence[int], *, node: str = "default") -> None:
        """Close descriptors that `run_with_cell_privileges` returned."""

    @abstractmethod
    async def write_held(self, held: int, offset: int, data: bytes, *, node: str = "default") -> None:
        """Write to a file of the cell through a descriptor that `run_with_cell_privileges` returned.

        Raises:
            OSError: Writing failed.
        """

    @abstractmethod
    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        """Connect to a listener inside.

        Args:
            port: TCP port.
            node: A node of the cell. All nodes share one network, so any of them reaches the listener.
            address: Literal IPv4 or IPv6 address.
            timeout: Seconds.

        Returns:
            A connected, non-blocking socket.

        Raises:
            OSError: Nothing listens there, or the cell is gone.
            TimeoutError: There was no answer in time.
        """

    @abstractmethod
    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        """Connect to a unix socket inside; no link in its path is followed, and `@NAME` is an abstract socket.

        Raises:
            OSError: Nothing listens there, or the cell is gone.
            TimeoutError: There was no answer in time.
        """

    async def freeze(self) -> None:
        """Freeze every process of the cell; without a freezer, stop all but the nodes' first processes.

        Raises:
            CellError: It could not be frozen.
        """
        await self._set_frozen(True)

    async def thaw(self) -> None:
        """Let the cell continue, unless an alarm stopped it."""
        if self.halted is None:
            await self._set_frozen(False)

    async def end_processes(self) -> None:
        """Kill every process of the agent; the nodes' first processes stay.

        Raises:
            CellError: A node does not answer.
        """
        await self._signal(signal.SIGKILL)

    @abstractmethod
    async def _set_frozen(self, frozen: bool) -> None: ...

    @abstractmethod
    async def _signal(self, number: signal.Signals) -> None: ...

    def responsive(self) -> bool:
        """Return whether every node's first process still runs; if not, the agent, the warden or the host ended it."""
        return self.alive and all(is_running(node.init.pid, node.init.start) for node in self.nodes.values())

    @property
    def warden_is_gone(self) -> bool:
        """Whether the cell's warden has ended or is ending, and the cell with it."""
        return self._warden.is_gone or self._warden.is_ending

    async def warden_end(self) -> WardenEnd | None:
        """Return how the cell's warden ended without a request, and the cell with it; None if it serves."""
        return await self._warden.ended()

    async def kill(self) -> float:
        """Kill everything in the cell. Can be called again.

        Returns:
            Seconds until the last process was gone.

        Raises:
            CellError: Something still runs.
        """
        self.alive = False
        answer, _ = await self._warden.call({"op": "kill", "cell": self.id}, timeout=REMOVE_TIMEOUT)
        if answer["survivors"]:
            raise CellError(f"{answer['survivors']} processes of the cell survived the kill")
        return float(answer["seconds"])

    async def remove(self) -> None:
        """Kill the cell, close what is attached to it and remove everything that it left on the host."""
        try:
            await self._close()
        finally:
            if self.folder.exists():
                try:
                    await self._warden.call({"op": "remove", "cell": self.id}, timeout=REMOVE_TIMEOUT)
                except CellGoneError:
                    await self._warden.swept()

    async def _close(self) -> None:
        """Close what is attached to the cell, and every connection into it."""
        self.alive = False
        try:
            for thing in reversed(self._attached.values()):
                if isinstance(thing, Closable):
                    await thing.aclose()
        finally:
            self._attached.clear()
            await self._close_connections()

    async def _close_connections(self) -> None:
        for node in self.nodes.values():
            node.control.close()

    # --- what belongs to the trial ---

    def attach(self, thing: object) -> None:
        """Keep an object that is closed with this cell; `attached` finds it by its class."""
        self._attached[type(thing)] = thing

    def attached(self, kind: type[T]) -> T:
        """Return the attached object of a class.

        Raises:
            LookupError: There is none.
        """
        found = self._attached.get(kind)
        if not isinstance(found, kind):
            raise LookupError(f"no {kind.__name__} belongs to this cell")
        return found


def _raise_file_error(done: Completed, path: str) -> None:
    if done.returncode != 0:
        raise OSError(done.returncode, os.strerror(done.returncode), path)
