"""The cell: one or more nodes, sealed, and everything that may be done to it from outside."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import anyio
import anyio.to_thread

from redline.cell.attendant import Attendant
from redline.cell.command import Completed, agent_environment, as_arguments, run_command
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.folders import make_folder
from redline.cell.messages import close_all, memory_file, send
from redline.cell.programs.warden import is_running
from redline.cell.runtime import Runtime, choose_runtime
from redline.cell.spec import HOME, IdMaps, NodeSpec, node_spec, require_closed_network
from redline.cell.state import claim_ids
from redline.cell.warden import GONE, LEASE_SECONDS, HarnessContext, Warden, WardenEnd, is_root, no_room

User = Literal["agent", "root"]
T = TypeVar("T")

SpecPatch = Callable[[dict[str, Any], str], dict[str, Any]]
"""From the specification of a node and its name to another one."""

DEFAULT_OUTPUT = 10 << 20
SPARE_SOCKETS = 16
START_TIMEOUT = 60.0
REMOVE_TIMEOUT = 60.0
HOSTNAMES = {"default": "node1", "target": "node2", "pause": "node1"}
PAUSE = "pause"
"""Where gVisor runs several nodes under one kernel, a container beside them holds the sandbox and runs nothing."""


@dataclass(frozen=True)
class ProcessRef:
    """A process by its pid on the machine and its start time, which together name it for ever."""

    pid: int
    start: int
    node: str


@dataclass(frozen=True)
class Node:
    """One running node of a cell."""

    name: str
    init: ProcessRef
    """The first process as whoever observes the cell knows it."""

    outside: ProcessRef | None
    """The first process as the machine knows it, None where a Docker engine runs it on another machine."""

    tether_dir: Path
    """The folder outside in which the tether's socket is bound."""

    control: socket.socket

    @property
    def init_pid(self) -> int:
        """Pid, on the machine, of the node's first process; 0 where it runs on another machine."""
        return self.outside.pid if self.outside else 0


@runtime_checkable
class Closable(Protocol):
    """Something attached to a cell that has an end of its own."""

    async def aclose(self) -> None:
        """Releases what it holds."""


class Cell:
    """A sealed cell. Made by `open_cell` or by the Inspect provider, never directly."""

    def __init__(self, cell_id: str, config: CellConfig, warden: Warden, ids: IdMaps) -> None:
        """Describes a cell that has no node yet."""
        self.id = cell_id
        self.config = config
        self.runtime = warden.runtime.name
        self.rootless = not is_root()
        self.observer: Literal["outside", "inside"] = "inside" if warden.runtime.inside else "outside"
        self.nodes: dict[str, Node] = {}
        self.alive = True
        self.halted: str | None = None
        """What an alarm stopped the cell for: no command starts and nothing thaws while it stands."""
        self._warden = warden
        self._ids = ids
        self._alter: SpecPatch | None = None
        self._attached: dict[type, object] = {}
        self._sockets: list[tuple[socket.AddressFamily, socket.socket]] = []
        self._attendants: dict[str, Attendant] = {}
        self._pause: Node | None = None

    @classmethod
    async def start(cls, config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> "Cell":
        """Makes a cell and waits until each node's first process serves.

        Args:
            config: Its shape and quotas.
            warden: Who makes it.
            patch: Changes a node's specification before it is used. For the seal's own test, which needs cells that
                are broken in one way; nothing else may use it.

        Raises:
            UsageError: This user or machine can make no cells.
            CellError: The runtime refused.
        """
        if warden.runtime.name == "docker":
            from redline.cell.docker.cell import DockerCell

            return await DockerCell.make(config, warden, patch)
        cell_id = secrets.token_hex(4)
        folder = warden.cells / cell_id
        try:
            make_folder(folder)
            cell = cls(cell_id, config, warden, claim_ids(warden.harness.owner.parent, folder))
            cell._alter = patch
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if warden.is_gone:
                raise CellGoneError(GONE) from error
            if isinstance(error, OSError):
                raise no_room(folder, error) from error
            raise
        try:
            if cell.observer == "inside" and len(config.nodes) > 1:
                cell._pause = await cell._start_node(PAUSE)
            for name in config.nodes:
                cell.nodes[name] = await cell._start_node(name)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await cell.remove()
            if warden.is_gone and isinstance(error, CellError):
                raise CellGoneError(GONE) from error
            raise
        return cell

    async def _start_node(self, name: str) -> Node:
        folder = self.folder / name
        tether = folder / "tether"
        try:
            make_folder(tether, parents=True)
        except OSError as error:
            raise no_room(folder, error) from error
        first = self.nodes.get("default")
        harness = self._warden.harness
        spec = node_spec(
            self.config,
            NodeSpec(
                hostname=HOSTNAMES[name],
                root=harness.root,
                init=harness.init,
                tether=tether,
                ids=self._ids,
                cgroup=None if self.rootless else f"/{self.cgroup}/{name}",
                shares=first.init.pid if first else None,
                attendant=harness.attendant if self.observer == "inside" else None,
                name="" if name == PAUSE else name,
                pod=f"{harness.owner.name}-{self.id}-{PAUSE}" if self._pause or name == PAUSE else None,
            ),
            harness.tools,
        )
        if self._alter is not None:
            spec = self._alter(spec, name)
        require_closed_network(spec, first.init.pid if first and self.observer == "outside" else None)
        try:
            (folder / "config.json").write_text(json.dumps(spec))
        except OSError as error:
            raise no_room(folder, error) from error
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        request = {
            "op": "start",
            "cell": self.id,
            "node": name,
            "shares": first is not None,
            "wall_seconds": self.config.wall_seconds,
        }
        try:
            with theirs:
                answer, _ = await self._warden.call(request, [theirs.fileno()], START_TIMEOUT)
            if self.observer == "inside" and name != PAUSE:
                await self._start_attendant(name, ours)
            with anyio.fail_after(START_TIMEOUT):
                await anyio.wait_readable(ours)
            if not ours.recv(1 << 10):
                raise CellError(f"the first process of node {name} ended at its start")
        except BaseException:
            ours.close()
            raise
        first_process = ProcessRef(answer["pid"], answer["start"], name)
        return Node(name, first_process, first_process, tether, ours)

    async def _start_attendant(self, node: str, control: socket.socket) -> None:
        """Gives the first process the stream of the attendant that it is to start."""
        ours, theirs = socket.socketpair()
        with theirs:
            await send(control, {}, [theirs.fileno()])
        stream = ours.detach()
        self._attendants[node] = Attendant(node, stream, stream)
        await self._attendants[node].ready()

    def attendant(self, node: str) -> Attendant:
        """The attendant of a node of a cell that the machine cannot see into.

        Raises:
            CellError: There is none.
        """
        try:
            return self._attendants[node]
        except KeyError:
            raise CellError(f"node {node} of this cell has no attendant") from None

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
        """Whether the machine can freeze the cell as a whole."""
        roots = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
        return any((root / self.cgroup / "cgroup.freeze").exists() for root in roots)

    # --- what happens inside ---

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
        """Runs a command in a node.

        The call ends when its main process does, even if a daemon that it started keeps the pipes open.

        Args:
            cmd: Program and arguments; the program is found by the PATH inside.
            node: The node to run it in.
            user: `agent` is uid 1000; `root` is uid 0 of the cell. Neither has a capability.
            input: Standard input.
            cwd: Working folder, the user's home by default.
            env: Variables beside PATH, HOME, LANG and TERM.
            timeout: Seconds after which it and its descendants are killed.
            output_limit: Bytes kept of each output; its tail is kept.

        Returns:
            How it ended.

        Raises:
            TimeoutError: It took longer than `timeout`.
            CellGoneError: The node is not running.
            CellError: The node can start no more processes.
        """
        return await self._command(
            node, self._request("exec", user, cwd, env, as_arguments(cmd)), input, timeout, output_limit
        )

    async def spawn(
        self,
        cmd: Sequence[str],
        *,
        node: str = "default",
        user: User = "agent",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ProcessRef:
        """Starts a daemon that outlives the call.

        Its parent is the node's first process, its input and outputs are /dev/null.

        Returns:
            The process as the machine sees it.

        Raises:
            CellGoneError: The node is not running.
            CellError: It did not start.
        """
        request = {**self._request("spawn", user, cwd, env, as_arguments(cmd))}
        done = await self._command(node, request, b"", START_TIMEOUT, 1 << 12)
        if done.returncode != 0:
            raise CellError(f"{cmd[0]} did not start: {done.stderr.decode(errors='replace')}")
        answer, _ = await self.run_with_cell_privileges(
            _FIND_PROCESS, {"node": node, "inside": int(done.stdout)}, node=node
        )
        return ProcessRef(answer["pid"], answer["start"], node)

    async def read_file(
        self, path: str, *, node: str = "default", user: User = "agent", cwd: str | None = None, limit: int
    ) -> bytes:
        """Reads a file of a node with the user's rights.

        Raises:
            OSError: As opening or reading it raised inside.
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
        """Writes a file of a node with the user's rights, making the folders above it.

        Raises:
            OSError: As opening or writing it raised inside.
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

    # --- what is done from outside ---

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
        """Runs a program outside the cell with all capabilities over the cell and none over the machine.

        It sees the machine's /proc. Root and rootless harnesses see the same this way, and what parses an agent's
        files can harm no more than the cell. Where the machine cannot see in (`observer` is `inside`), the program
        runs in one node as the cell's root, and sees what that node sees.

        Args:
            program: Source text for the standard library only. It defines `main(request, fds)`, which returns a
                dictionary for JSON and a list of descriptors. Given to it are `openat2_in_root(root_fd, path, flags,
                mode=0)`, `join_namespace(fd, kind)`, `is_running(pid, start)` and `cell_processes(inits)`, which yields
                (node, pid) of every process of the cell.
            request: Its argument; `inits` (node to pid of its first process) is added.
            held: Descriptors of an earlier answer for it.
            data: Bytes for it, as a file that is the last of its descriptors.
            timeout: Seconds after which it is killed.
            node: The node that it runs in, where it runs inside.

        Returns:
            Its answer, and its descriptors, which are the caller's to give back with `release`.

        Raises:
            CellError: It raised.
            TimeoutError: It took too long.
        """
        if self.observer == "inside":
            if not self.alive:
                raise CellGoneError("the cell is not running")
            # In a cell that an alarm stopped, too: what it holds is looked at, as it is from outside.
            return await self.attendant(node).join(program, request, held=held, data=data, timeout=timeout)
        message = {"op": "join", "cell": self.id, "program": program, "request": dict(request), "timeout": timeout}
        with memory_file(data) as given:
            return await self._warden.call(message, [*held, *given], timeout + 2.0)

    async def release(self, held: Sequence[int], *, node: str = "default") -> None:
        """Closes descriptors that `joined` returned; what a node inside held goes with it."""
        if self.observer == "outside":
            close_all(held)
        elif self.alive and node in self._attendants:
            await self._attendants[node].release(held)

    async def write_held(self, held: int, offset: int, data: bytes, *, node: str = "default") -> None:
        """Writes to a file of the cell through a descriptor that `joined` returned.

        Raises:
            OSError: As writing raised.
        """
        if self.observer == "inside":
            await self.attendant(node).write(held, offset, data)
            return
        rest = memoryview(data)
        while rest:
            count = await anyio.to_thread.run_sync(os.pwrite, held, rest, offset)
            rest, offset = rest[count:], offset + count

    async def connect(
        self, port: int, *, node: str = "default", address: str = "127.0.0.1", timeout: float = 2.0
    ) -> socket.socket:
        """Connects to a listener inside.

        Args:
            port: TCP port.
            node: Unused by the kernel, since the nodes share a network; checked to exist.
            address: IPv4 or IPv6 address, a literal.
            timeout: Seconds.

        Returns:
            A connected, non-blocking socket.

        Raises:
            OSError: Nobody listens, or the cell is gone.
            TimeoutError: No answer in time.
        """
        self._node(node)
        if self.observer == "inside":
            return await self.attendant(node).connect(address, port, timeout)
        made = await self._socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        return await _connect(made, (address, port), timeout)

    async def connect_unix(self, path: str, *, node: str = "default", timeout: float = 2.0) -> socket.socket:
        """Connects to a unix socket inside; no link in its path is followed, and `@NAME` is an abstract one.

        Raises:
            OSError: Nobody listens, or the cell is gone.
            TimeoutError: No answer in time.
        """
        self._node(node)
        if self.observer == "inside":
            return await self.attendant(node).connect_unix(path, timeout)
        request = {"node": node, "path": path, "timeout": timeout}
        answer, fds = await self.run_with_cell_privileges(_CONNECT_UNIX, request, timeout=timeout + 1.0)
        if not fds:
            raise OSError(answer["errno"], os.strerror(answer["errno"]), path)
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        return made

    async def _socket(self, family: socket.AddressFamily) -> socket.socket:
        """A spare socket of the cell's network; they are made several at a time because each making is a fork."""
        for index, (kind, spare) in enumerate(self._sockets):
            if kind == family:
                del self._sockets[index]
                return spare
        _, fds = await self._warden.call({"op": "sockets", "cell": self.id, "families": [int(family)] * SPARE_SOCKETS})
        fresh = [socket.socket(fileno=fd) for fd in fds]
        for made in fresh:
            made.setblocking(False)
        self._sockets += [(family, made) for made in fresh[1:]]
        return fresh[0]

    async def freeze(self) -> None:
        """Freezes every process of the cell; where there is no freezer, stops all but the nodes' first processes.

        Raises:
            CellError: It could not be frozen.
        """
        await self._set_frozen(True)

    async def thaw(self) -> None:
        """Lets the cell go on, unless an alarm stopped it."""
        if self.halted is None:
            await self._set_frozen(False)

    async def _set_frozen(self, frozen: bool) -> None:
        if self.observer == "inside":
            await self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)
            return
        answer, _ = await self._warden.call({"op": "freeze", "cell": self.id, "frozen": frozen})
        if answer["done"]:
            return
        await self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    async def end_processes(self) -> None:
        """Kills every process of the agent's; the nodes' first processes stay.

        Raises:
            CellError: A node does not answer.
        """
        await self._signal(signal.SIGKILL)

    async def _signal(self, number: signal.Signals) -> None:
        if self.observer == "inside":
            for attendant in self._attendants.values():
                await attendant.signal(number)
            return
        for node in self.nodes.values():
            await run_command(node.control, {"op": "signal", "signal": number}, b"", START_TIMEOUT, 1 << 10)

    def responsive(self) -> bool:
        """Whether every node's first process still runs; if not, something inside ended it, or the warden did."""
        return (
            self.alive
            and all(is_running(node.init.pid, node.init.start) for node in self.nodes.values())
            and all(attendant.is_serving for attendant in self._attendants.values())
        )

    async def warden_end(self) -> WardenEnd | None:
        """How this cell's warden ended that was not told to, and the cell with it; None where it serves."""
        return await self._warden.ended()

    async def kill(self) -> float:
        """Kills everything in the cell. May be called again.

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
        """Kills the cell, closes what was attached to it and removes all that it left on the machine."""
        try:
            await self._close()
        finally:
            if self.folder.exists():
                try:
                    await self._warden.call({"op": "remove", "cell": self.id}, timeout=REMOVE_TIMEOUT)
                except CellGoneError:
                    await self._warden.swept()

    async def _close(self) -> None:
        """Closes what was attached to the cell, and every way into it."""
        self.alive = False
        try:
            for thing in reversed(self._attached.values()):
                if isinstance(thing, Closable):
                    await thing.aclose()
        finally:
            self._attached.clear()
            for _, spare in self._sockets:
                spare.close()
            self._sockets.clear()
            for attendant in self._attendants.values():
                await anyio.to_thread.run_sync(attendant.close, abandon_on_cancel=True)
            for node in (*self.nodes.values(), *((self._pause,) if self._pause else ())):
                node.control.close()

    # --- what belongs to the trial ---

    def attach(self, thing: object) -> None:
        """Keeps something that lives and dies with this cell, to be found by its class."""
        self._attached[type(thing)] = thing

    def attached(self, kind: type[T]) -> T:
        """What was attached of that class.

        Raises:
            LookupError: Nothing was.
        """
        found = self._attached.get(kind)
        if not isinstance(found, kind):
            raise LookupError(f"no {kind.__name__} belongs to this cell")
        return found


async def _connect(made: socket.socket, address: tuple[str, int], timeout: float) -> socket.socket:
    try:
        with anyio.fail_after(timeout):
            try:
                made.connect(address)
            except BlockingIOError:
                await anyio.wait_writable(made)
                number = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, "connect") from None
    except BaseException:
        made.close()
        raise
    return made


def _raise_file_error(done: Completed, path: str) -> None:
    if done.returncode != 0:
        raise OSError(done.returncode, os.strerror(done.returncode), path)


_FIND_PROCESS = """
import os
def main(request, fds):
    if "proc" in request:
        with open("/proc/%d/stat" % request["inside"], "rb") as file:
            return {"pid": request["inside"], "start": int(file.read().rpartition(b")")[2].split()[19])}, []
    for _, pid in cell_processes({request["node"]: request["inits"][request["node"]]}):
        try:
            # Linux escapes the line feeds of a name in this text, and no other of its bytes.
            with open("/proc/%d/status" % pid, "rb") as file:
                inside = [line for line in file if line.startswith(b"NSpid:")][0].split()[-1]
            if int(inside) == request["inside"]:
                with open("/proc/%d/stat" % pid, "rb") as file:
                    return {"pid": pid, "start": int(file.read().rpartition(b")")[2].split()[19])}, []
        except (OSError, IndexError):
            continue
    raise ProcessLookupError("the process ended at once")
"""

_CONNECT_UNIX = """
import errno, os, socket, time
def main(request, fds):
    try:
        return {}, [connected(request)]
    except (OSError, ValueError) as error:
        return {"errno": getattr(error, "errno", None) or errno.EINVAL}, []

def connected(request):
    init, path = request["inits"][request["node"]], request["path"]
    if path.startswith("@"):
        network = os.open("/proc/%d/ns/net" % init, os.O_RDONLY | os.O_CLOEXEC)
        join_namespace(network, 0x40000000)
        target = b"\\0" + os.fsencode(path[1:])
    else:
        root = os.open("/proc/%d/root" % init, os.O_PATH)
        target = b"/proc/self/fd/%d" % openat2_in_root(root, path, os.O_PATH)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    deadline = time.monotonic() + request["timeout"]
    while True:
        number = made.connect_ex(target)
        if number == 0:
            return made.detach()
        # Others wait to be accepted; one of them may be soon.
        if number != errno.EAGAIN or time.monotonic() > deadline:
            raise OSError(number, os.strerror(number))
        time.sleep(0.02)
"""


_shared: ContextVar[Warden | None] = ContextVar("shared_warden", default=None)
"""The warden of the cells that are opened in this context, where they share one."""


@contextlib.asynccontextmanager
async def open_cell(
    config: CellConfig | None = None, patch: SpecPatch | None = None, lease_seconds: float | None = None
) -> AsyncIterator[Cell]:
    """A cell for tools and tests that do without Inspect; see `Cell.start`.

    Args:
        config: Its shape.
        patch: See `Cell.start`.
        lease_seconds: The lease of a warden of its own; none takes the usual one, or the warden of `one_warden`.
    """
    config = config or CellConfig()
    warden = _shared.get()
    async with contextlib.AsyncExitStack() as stack:
        if lease_seconds is not None or warden is None or warden.runtime.name != config.runtime:
            runtime = choose_runtime(config.runtime)
            warden = await stack.enter_async_context(_kept(runtime, lease_seconds or LEASE_SECONDS))
        cell = await Cell.start(config, warden, patch)
        try:
            yield cell
        finally:
            with anyio.CancelScope(shield=True):
                await cell.remove()


@contextlib.asynccontextmanager
async def one_warden(config: CellConfig) -> AsyncIterator[None]:
    """Lets the cells that are opened in the block share a warden: each of their own would cost as much as a cell.

    Args:
        config: A shape of the cells; those whose configuration does not name its runtime get a warden of their own.
    """
    shared = _shared.get()
    if shared is not None and shared.runtime.name == config.runtime:
        yield
        return
    async with _kept(choose_runtime(config.runtime), LEASE_SECONDS) as warden:
        token = _shared.set(warden)
        try:
            yield
        finally:
            _shared.reset(token)


@contextlib.asynccontextmanager
async def _kept(runtime: Runtime, lease_seconds: float) -> AsyncIterator[Warden]:
    warden = await anyio.to_thread.run_sync(Warden.start, runtime, lease_seconds)
    try:
        yield warden
    finally:
        with anyio.CancelScope(shield=True):
            await warden.aclose()
