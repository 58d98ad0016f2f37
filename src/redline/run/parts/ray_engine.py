"""Run a plan on the nodes of a Ray cluster: each part is an actor task that uses the node's resource `cells`.

The actor only supervises a worker process. Cells, census, tether and seal stay on the node, and results go to the
shared folder, so that Ray carries only messages about progress.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from redline import __version__
from redline._base import read_toml
from redline._errors import UsageError
from redline._names import one_line
from redline._supervised import MARKER_SECONDS, SupervisedProcess
from redline.plan import Plan, completed
from redline.run.execute import RunOptions, RunOutcome
from redline.run.folder import RunFolder
from redline.run.models import price
from redline.run.parts import workers
from redline.run.parts.engine import END_SECONDS, LostSlotError, NoSlotError, Slot, UnfitSlotError
from redline.run.parts.messages import Job
from redline.run.parts.pool import limits as pool_limits
from redline.run.parts.pool import run_parts
from redline.run.watch import Watcher

INSTALL = "--ray needs the extra redline[ray]: pip install 'redline[ray]'"

RESOURCE = "cells"
"""Custom resource of the nodes that run parts: the number of concurrent cells."""

START_A_NODE = "start nodes with `ray start --address=HOST:PORT --resources='{\"cells\": 8}'`"

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
"""Environment of Ray in this process: it reports nothing to its developers, and prints no error of a lost node."""

TRY = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except BaseException as error:
    sys.exit(" ".join(str(error).split()) or type(error).__name__)
"""
"""Program that connects to a cluster. Without a cluster, Ray retries for minutes, and only killing it stops that."""

TCP_SECONDS = 5.0

MAX_MESSAGE = 300
"""Maximum length of a message of Ray that is shown, in characters."""


@dataclass(frozen=True)
class RayLimits:
    """Limits in the data file."""

    connect_seconds: float
    poll_seconds: float
    node_seconds: float
    start_seconds: float
    call_seconds: float
    receive_seconds: float
    max_losses_per_node: int
    rounds_per_part: int


def limits() -> RayLimits:
    """Return the limits in the data file."""
    return RayLimits(**read_toml("redline.run.parts", "ray.toml"))


def run_on_ray(plan: Plan, folder: RunFolder, watcher: Watcher, options: RunOptions, address: str) -> RunOutcome:
    """Run every trial of the plan that no part in the folder contains yet on a Ray cluster, and merge the parts.

    Args:
        plan: The plan.
        folder: Folder of the merged run, which every node sees at the same path.
        watcher: Receives the progress of all nodes.
        options: Options of the run; `cells` bounds each node.
        address: Address of the cluster's head, or `auto`.

    Raises:
        UsageError: The cluster, the plan, a model or the folder cannot be used.
        EvidenceError: A record in the folder is altered.
    """
    plan = completed(plan)
    price(plan, options.prices, (options.judge, options.monitor))
    for spec in plan.every_model:
        if spec.name.startswith("llama-cpp/"):
            raise UsageError(
                f"model {spec.name}: every part would start a server of its own; start one server and give its "
                "address, or run without --ray"
            )
    with ExitStack() as stack:
        engine = stack.enter_context(connected(address, options.cells))
        return run_parts(plan, folder, watcher, options, engine, close=stack.close)


@contextmanager
def connected(address: str, cells: int | None) -> Iterator["RayEngine"]:
    """Connect to a cluster while the block runs.

    Raises:
        UsageError: Ray is not installed, or the address is wrong, or no node has cells.
    """
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError as error:
        raise UsageError(INSTALL) from error
    check_address(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:  # the cluster has ended since the check
        raise UsageError(f"--ray {address}: no Ray cluster can be used there: {one_line(error)}") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray replaces it
    engine = RayEngine(ray, cells)
    try:
        engine.wait_for_node()
        yield engine
    finally:
        engine.close()
        ray.shutdown()


def check_address(address: str) -> None:
    """Try to connect to a cluster within a bounded time.

    Raises:
        UsageError: There is no cluster at the address.
    """
    refusal = f"--ray {address}: no Ray cluster can be used there"
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit()) or "/" in address:
            raise UsageError(f"--ray must be auto or HOST:PORT of the head of a Ray cluster (got {address[:80]})")
        try:
            socket.create_connection((host.strip("[]"), int(port)), TCP_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"{refusal}: {one_line(error)}") from error
    seconds = limits().connect_seconds
    try:
        tried = subprocess.run(
            (sys.executable, "-c", TRY, address),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{refusal}: it did not respond within {seconds:.0f} s") from None
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "the connection failed"
        raise UsageError(f"{refusal}: {said[:MAX_MESSAGE]}")


@dataclass
class RayEngine:
    """The nodes of a Ray cluster that have the resource `cells`."""

    ray: Any
    """The module `ray`, connected to the cluster."""
    max_cells: int | None
    """Maximum number of concurrent cells of one node."""
    spans_hosts: bool = True
    marker: Path | None = None
    """File in the shared folder that every node must see."""
    _active: dict[str, "RaySlot"] = field(default_factory=dict)
    """Slots that the pool uses, by the ID of the node."""
    _unfit: set[str] = field(default_factory=set)
    _losses: Counter[str] = field(default_factory=Counter)
    """Slots lost in succession, by the ID of the node."""

    def __post_init__(self) -> None:
        """Create the class of the actors."""
        self.actors = self.ray.remote(num_cpus=0, max_restarts=0)(SupervisedProcess)

    def nodes(self) -> dict[str, tuple[str, int]]:
        """Return name and number of cells of each living node that can be used, by its ID."""
        found = {}
        for node in self.ray.nodes():
            cells = int(node["Resources"].get(RESOURCE, 0))
            if node["Alive"] and cells > 0 and node["NodeID"] not in self._unfit:
                name = str(node["NodeManagerHostname"] or node["NodeName"])
                found[node["NodeID"]] = (name, min(cells, self.max_cells or cells))
        return found

    def wait_for_node(self) -> None:
        """Wait until a node can be used.

        Raises:
            UsageError: There is none in time.
        """
        anyio.run(self._first_node)

    async def _first_node(self) -> None:
        with anyio.move_on_after(limits().node_seconds):
            while not await self._read_nodes():
                await anyio.sleep(limits().poll_seconds)
            return
        raise UsageError(f"no node of the Ray cluster has the resource {RESOURCE}: {START_A_NODE}")

    async def _read_nodes(self) -> dict[str, tuple[str, int]]:
        """Return the nodes; none if the head of the cluster does not respond."""
        with anyio.move_on_after(limits().call_seconds):
            return await anyio.to_thread.run_sync(self.nodes, abandon_on_cancel=True)
        return {}

    @property
    def size(self) -> int:
        """Number of nodes that can be used now."""
        return max(1, len(self.nodes()))

    @property
    def cells(self) -> int:
        """Number of cells of the nodes that the run uses."""
        return sum(slot.cells for slot in self._active.values())

    @property
    def max_trials_per_part(self) -> int:
        """Maximum number of trials of one part."""
        largest = max((cells for _, cells in self.nodes().values()), default=1)
        return min(limits().rounds_per_part * largest, pool_limits().max_trials_per_part)

    async def slots(self, shared: Path) -> AsyncGenerator[Slot, None]:
        """Yield a slot for each node, also for nodes that join later.

        Raises:
            NoSlotError: No node has run a part for too long.
        """
        self.marker = shared / f".shared-{secrets.token_hex(8)}"  # a new name, which no node has in a cache
        self.marker.touch()
        last = anyio.current_time()
        while True:
            for node, (name, cells) in (await self._read_nodes()).items():
                if node not in self._active:
                    self._active[node] = RaySlot(self, node, name, cells)
                    yield self._active[node]
            if self._active:
                last = anyio.current_time()
            elif anyio.current_time() - last > limits().node_seconds:
                raise NoSlotError(f"no node of the Ray cluster has run a part for {limits().node_seconds:.0f} s")
            await anyio.sleep(limits().poll_seconds)

    def release(self, slot: Slot, *, unfit: bool) -> None:
        """Take a slot back; its node gets another one unless it is unfit or loses every part."""
        assert isinstance(slot, RaySlot)
        del self._active[slot.node]
        if unfit or self._losses[slot.node] >= limits().max_losses_per_node:
            self._unfit.add(slot.node)

    def lost(self, slot: "RaySlot", why: str) -> LostSlotError:
        """Count the loss of a slot; return the error that reports it."""
        self._losses[slot.node] += 1
        return LostSlotError(why)

    def reported(self, slot: "RaySlot") -> None:
        """Note that a worker of a slot has ended in order."""
        self._losses[slot.node] = 0

    def close(self) -> None:
        """Remove the marker. An NFS client that changes a folder also reads it anew, so the merge finds every part."""
        if self.marker is not None:
            self.marker.unlink(missing_ok=True)


@dataclass(frozen=True)
class RaySlot:
    """The cells of a node."""

    engine: RayEngine
    node: str
    """ID of the node."""
    where: str
    cells: int

    @asynccontextmanager
    async def worker(self, job: Job, log: Path) -> AsyncIterator["RayWorker"]:
        """Start a worker in an actor on the node."""
        affinity = self.engine.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(self.node, soft=False)
        actor = self.engine.actors.options(resources={RESOURCE: self.cells}, scheduling_strategy=affinity).remote()
        worker = RayWorker(self, actor)
        try:
            await worker.start(job, log)
            yield worker
        finally:
            with anyio.CancelScope(shield=True):
                await worker.end()


class RayWorker:
    """A worker process that an actor on a node supervises."""

    def __init__(self, slot: RaySlot, actor: Any) -> None:
        """Store the actor."""
        self._slot = slot
        self._actor = actor
        self._lines: list[bytes | None] = []
        self._is_running = False

    async def start(self, job: Job, log: Path) -> None:
        """Check that the node fits this run, and start the worker.

        Raises:
            LostSlotError: The node does not respond, or its cells are in use.
            UnfitSlotError: The node has another redline, or does not see the folder.
        """
        marker = self._slot.engine.marker
        assert marker is not None
        seconds = limits().start_seconds + MARKER_SECONDS
        version, sees = await self._call(self._actor.describe.remote(str(marker.absolute())), seconds)
        if version != __version__:
            raise UnfitSlotError(f"it has redline {version}, and this host has {__version__}")
        if not sees:
            raise UnfitSlotError(f"it does not see {marker.parent.absolute()}: --out must be in a shared folder")
        self._is_running = True
        await self._call(self._actor.start.remote(workers.COMMAND[1:], job.line(), str(log.absolute())))

    async def receive(self) -> bytes | None:
        """Return the next line; None when the process has ended.

        Raises:
            LostSlotError: The node does not respond.
        """
        while not self._lines:
            wait = limits().receive_seconds
            self._lines = await self._call(self._actor.receive.remote(wait), wait + limits().call_seconds)
        line = self._lines.pop(0)
        if line is None:
            self._is_running = False
            self._slot.engine.reported(self._slot)
        return line

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; a lost node is noticed elsewhere."""
        self._actor.signal.remote(int(number))

    async def end(self) -> None:
        """End the process, and then the actor; without the actor, the process ends itself."""
        if self._is_running:
            with suppress(LostSlotError, UnfitSlotError):
                await self._call(self._actor.end.remote(END_SECONDS), END_SECONDS + limits().call_seconds)
        with suppress(self._slot.engine.ray.exceptions.RayError):
            self._slot.engine.ray.kill(self._actor)

    async def _call(self, reference: Any, seconds: float | None = None) -> Any:
        """Return the result of a call.

        Raises:
            LostSlotError: There is none in time, or the node or its process is gone.
            UnfitSlotError: The call raised an error.
        """
        errors = self._slot.engine.ray.exceptions
        try:
            with anyio.fail_after(seconds or limits().call_seconds):
                return await reference
        except TimeoutError:
            self._is_running = False
            raise self._slot.engine.lost(self._slot, "it does not respond, or its cells are in use") from None
        except errors.RayTaskError as error:
            raise UnfitSlotError(one_line(error.cause or error)[:MAX_MESSAGE]) from error
        except errors.RayError as error:
            self._is_running = False
            first = str(error).strip().partition("\n")[0].rstrip(":. ")
            raise self._slot.engine.lost(self._slot, f"it was lost ({first[:MAX_MESSAGE]})") from error
