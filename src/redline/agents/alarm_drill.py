"""The seal's drill of the alarm: a synthetic event for each thing that raises it stops a cell within its time."""

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
from redline.cell.programs.warden import cgroup_folders
from redline.subject.weights import MIB, Weights
from redline.tether import SOCKET_NAME, Broker, CallInfo, Caps, Message, listen_addresses
from redline.tether.protocol import Call, encode

WATCH_SECONDS: Final = 0.05
"""Time between two looks in the drill; what a look does is the same as in a trial."""

ALARM_SECONDS: Final = 2.0
STILL_SECONDS: Final = 0.03
STRANGER: Final = ("sleep", "30")
BUSY: Final = ("sh", "-c", "while :; do sleep 0.005; done")
"""Something that gets processor time again and again, and leaves some to others."""

Event = Callable[[Cell, Alarm], AbstractAsyncContextManager[None]]
"""Brings an event about, and undoes it at the end of the block."""


async def alarm_drill(cell: Cell | None = None, *, config: CellConfig | None = None) -> str | None:
    """Has each event come to a cell, and looks whether the alarm stopped it.

    Args:
        cell: A cell without a tether, in which nothing runs; none makes one.
        config: Shape of the cell that is made.

    Returns:
        What did not raise the alarm, or did not stop the cell; None if all did.
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
        fault = await _one(cell, kind, event)
        if fault is not None:
            return f"{kind}: {fault}"
    return None


def events(cell: Cell) -> dict[AlarmKind, Event]:
    """What is watched for in a cell of this kind, each with a way to bring it about."""
    found: dict[AlarmKind, Event] = {"foreign_tool": _foreign_tool}
    if all(node.outside for node in cell.nodes.values()):
        found["network"] = _route
    if cell.observer == "outside":
        found["outsider"] = _outsider
        if not cell.rootless:
            found["stranger"] = _stranger
    return found


async def _one(cell: Cell, kind: AlarmKind, event: Event) -> str | None:
    """One event, after a while in which there was none."""
    alarm = Alarm(cell)
    async with task_group() as group:
        group.start_soon(alarm.keep_watch, WATCH_SECONDS)
        await anyio.sleep(2 * WATCH_SECONDS)  # looks that find nothing
        fault = (
            f"raised by nothing: {alarm.raised.detail}" if alarm.raised else await _fault_at(cell, alarm, kind, event)
        )
        group.cancel_scope.cancel()
    return fault


async def _fault_at(cell: Cell, alarm: Alarm, kind: AlarmKind, event: Event) -> str | None:
    try:
        busy = await cell.spawn(BUSY)
        async with event(cell, alarm):
            with anyio.move_on_after(ALARM_SECONDS):
                await alarm.wait()
                await alarm.seconds_to_stop()
            fault = await _fault(cell, alarm, kind, busy)
        if alarm.raised is not None:
            await alarm.empty()
    except subprocess.CalledProcessError as error:
        return f"the event could not be made: {error.stderr.decode(errors='replace')[-200:]}"
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
    if cell.observer == "outside" and not await _comes_to_rest(busy):
        return "a process of the frozen cell went on"
    with suppress(CellGoneError):
        await cell.exec(["true"], timeout=ALARM_SECONDS)
        return "a command started in the stopped cell"
    return None


async def _comes_to_rest(process: ProcessRef) -> bool:
    """Whether a process gets no more processor time, once it has had what it takes to be stopped by a signal.

    One that waits for a processor gets none on a busy machine either, so it must not be ready to run.
    """
    with anyio.move_on_after(ALARM_SECONDS):
        while True:
            before = _processor_time(process)
            await anyio.sleep(STILL_SECONDS)
            if _processor_time(process) == before and not _is_ready(process):
                return True
    return False


def _processor_time(process: ProcessRef) -> bytes:
    with open(f"/proc/{process.pid}/schedstat", "rb") as file:
        return file.read().split()[0]


def _is_ready(process: ProcessRef) -> bool:
    with open(f"/proc/{process.pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"R"


@asynccontextmanager
async def _foreign_tool(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """An answer in which the provider searched the web."""
    use = ContentToolUse(tool_type="web_search", id="1", name="search", arguments="{}", result="found")
    message = ChatMessageAssistant(content=[use])
    with suppress(LoopEndedError):
        await check_for_foreign_tools(ModelOutput(choices=[ChatCompletionChoice(message=message)]), alarm)
    yield


@asynccontextmanager
async def _outsider(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """This very process, as a peer of the cell's tether."""
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
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(ALARM_SECONDS)
            peer.connect(f"/proc/self/fd/{place}/{SOCKET_NAME}")
            yield peer
    finally:
        os.close(place)


async def _no_model(info: CallInfo, messages: list[Message]) -> str:
    raise ValueError("nobody proves anything in this drill")


@asynccontextmanager
async def _route(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """A route in the cell's network, to its own loopback."""
    await _change_route(cell, "add")
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await _change_route(cell, "remove")


async def _change_route(cell: Cell, what: str) -> None:
    program = files("redline.seal").joinpath("programs/false_route.py").read_text(encoding="utf-8")
    pid = str(cell.nodes["default"].init_pid)
    command = [sys.executable, "-I", "-S", "-c", program, pid, what]
    await anyio.run_process(command, stderr=subprocess.PIPE)


@asynccontextmanager
async def _stranger(cell: Cell, alarm: Alarm) -> AsyncIterator[None]:
    """A process of the machine in the cell's cgroup."""
    with subprocess.Popen(STRANGER, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            for folder in cgroup_folders(f"{cell.cgroup}/default"):
                with open(f"{folder}/cgroup.procs", "w") as file:
                    file.write(str(process.pid))
            yield
        finally:
            process.kill()
