"""The alarm drill: check that a synthetic event of each kind raises the alarm and stops the cell in time."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from typing import Final

import anyio
import anyio.to_thread
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ContentToolUse, ModelOutput

from redline._tasks import task_group
from redline.agents.boundary import check_for_foreign_tools, guard_tether
from redline.agents.ending import LoopEndedError
from redline.cell import Cell, CellConfig, CellError, CellGoneError, ProcessRef, open_cell
from redline.cell.alarm import Alarm, AlarmKind
from redline.cell.programs.cgroups import cgroup_folders
from redline.cell.programs.prelude import stat_fields
from redline.subject.weights import MIB, Weights
from redline.tether import SOCKET_NAME, Broker, CallInfo, Caps, Message, listen_addresses
from redline.tether.protocol import Call, encode

WATCH_SECONDS: Final = 0.05
"""Interval between two checks in the drill. The checks are the same as in a trial."""

ALARM_SECONDS: Final = 2.0
STILL_SECONDS: Final = 0.03
STRANGER_COMMAND: Final = ("sleep", "30")
BUSY_COMMAND: Final = ("sh", "-c", "while :; do sleep 0.005; done")
"""A process that uses the CPU repeatedly without occupying it."""

Event = Callable[[Cell, Alarm], AbstractAsyncContextManager[None]]
"""Cause an event and undo it at the end of the block."""


async def alarm_drill(cell: Cell | None = None, *, config: CellConfig | None = None) -> str | None:
    """Cause each event in a cell and check that the alarm stops the cell.

    Args:
        cell: A cell without a tether in which nothing runs; None creates one.
        config: Configuration of the created cell.

    Returns:
        The first event that did not raise the alarm or did not stop the cell; None if all did.
    """
    if cell is not None:
        return await _drill(cell)
    try:
        async with open_cell(config or CellConfig()) as own:
            return await _drill(own)
    except (CellError, OSError) as error:
        return f"the drill did not run: {error}"


async def _drill(cell: Cell) -> str | None:
    for kind, event in events(cell).items():
        fault = await _check_event(cell, kind, event)
        if fault is not None:
            return f"{kind}: {fault}"
    return None


def events(cell: Cell) -> dict[AlarmKind, Event]:
    """Return the events that the alarm of such a cell watches for, each with a function that causes it."""
    found: dict[AlarmKind, Event] = {"foreign_tool": _foreign_tool}
    if all(node.outside for node in cell.nodes.values()):
        found["network"] = _route
    if cell.observer == "outside":
        found["outsider"] = _outsider
        if not cell.rootless:
            found["stranger"] = _stranger
    return found


async def _check_event(cell: Cell, kind: AlarmKind, event: Event) -> str | None:
    """Cause one event after an interval without events; return the fault, None if the alarm worked."""
    alarm = Alarm(cell)
    async with task_group() as group:
        group.start_soon(alarm.keep_watch, WATCH_SECONDS)
        await anyio.sleep(2 * WATCH_SECONDS)  # checks that find nothing
        fault = (
            f"raised without an event: {alarm.raised.detail}"
            if alarm.raised
            else await _fault_during(cell, alarm, kind, event)
        )
        group.cancel_scope.cancel()
    return fault


async def _fault_during(cell: Cell, alarm: Alarm, kind: AlarmKind, event: Event) -> str | None:
    try:
        busy = await cell.spawn(BUSY_COMMAND)
        async with event(cell, alarm):
            with anyio.move_on_after(ALARM_SECONDS):
                await alarm.wait()
                await alarm.seconds_to_stop()
            fault = await _fault(cell, alarm, kind, busy)
        if alarm.raised is not None:
            await alarm.empty()
    except subprocess.CalledProcessError as error:
        return f"the event could not be caused: {error.stderr.decode(errors='replace')[-200:]}"
    except (CellError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return fault


async def _fault(cell: Cell, alarm: Alarm, kind: AlarmKind, busy: ProcessRef) -> str | None:
    if alarm.raised is None:
        return f"no alarm within {ALARM_SECONDS} s"
    if alarm.raised.kind != kind:
        return f"the alarm was {alarm.raised.kind}: {alarm.raised.detail}"
    if alarm.stopped != "frozen":
        return "the cell was not frozen"
    if cell.observer == "outside" and not await _stops_running(busy):
        return "a process of the frozen cell kept running"
    with suppress(CellGoneError):
        await cell.exec(["true"], timeout=ALARM_SECONDS)
        return "a command started in the stopped cell"
    return None


async def _stops_running(process: ProcessRef) -> bool:
    """Return whether a process stops using the CPU before the timeout.

    It must not be runnable either: on a busy host, a runnable process can wait without CPU time.
    """
    with anyio.move_on_after(ALARM_SECONDS):
        while True:
            before = _cpu_time(process)
            await anyio.sleep(STILL_SECONDS)
            if _cpu_time(process) == before and not _is_runnable(process):
                return True
    return False


def _cpu_time(process: ProcessRef) -> bytes:
    with open(f"/proc/{process.pid}/schedstat", "rb") as file:
        return file.read().split()[0]


def _is_runnable(process: ProcessRef) -> bool:
    return stat_fields(process.pid)[:1] == [b"R"]


@asynccontextmanager
async def _foreign_tool(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """Check an answer in which the provider searched the web."""
    use = ContentToolUse(tool_type="web_search", id="1", name="search", arguments="{}", result="found")
    message = ChatMessageAssistant(content=[use])
    with suppress(LoopEndedError):
        await check_for_foreign_tools(ModelOutput(choices=[ChatCompletionChoice(message=message)]), alarm)
    yield


@asynccontextmanager
async def _outsider(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """Connect this process to the cell's tether."""
    broker = Broker(cell.nodes, Weights.from_seed(1, MIB, 1), Caps.default(), _no_model)
    guard_tether(broker, alarm)
    places = await listen_addresses(cell)
    async with broker.listening(places), task_group() as group:
        group.start_soon(broker.serve)
        with _connected(os.fspath(cell.nodes["default"].tether_dir)) as peer:
            peer.send(encode(Call(messages=(Message(role="user", content="hello"),))))
            yield
        group.cancel_scope.cancel()


@contextmanager
def _connected(folder: str) -> Iterator[socket.socket]:
    folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(ALARM_SECONDS)
            peer.connect(f"/proc/self/fd/{folder_fd}/{SOCKET_NAME}")
            yield peer
    finally:
        os.close(folder_fd)


async def _no_model(info: CallInfo, messages: list[Message]) -> str:
    raise ValueError("the drill proves no weights")


@asynccontextmanager
async def _route(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """Add a route to the cell's network, to its own loopback interface."""
    await _change_route(cell, "add")
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await _change_route(cell, "remove")


async def _change_route(cell: Cell, action: str) -> None:
    program = files("redline.seal").joinpath("programs/false_route.py").read_text(encoding="utf-8")
    pid = str(cell.nodes["default"].init_pid)
    command = [sys.executable, "-I", "-S", "-c", program, pid, action]
    await anyio.run_process(command, stderr=subprocess.PIPE)


@asynccontextmanager
async def _stranger(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """Add a process of the host to the cell's cgroup."""
    with subprocess.Popen(STRANGER_COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            for folder in cgroup_folders(f"{cell.cgroup}/default"):
                with open(f"{folder}/cgroup.procs", "w") as file:
                    file.write(str(process.pid))
            yield
        finally:
            process.kill()
