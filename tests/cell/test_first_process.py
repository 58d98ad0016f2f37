"""A resource that an agent has used up fails one call at most: the first process of the node keeps running."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from redline.cell import Cell, CellConfig, open_cell
from redline.cell.command import Pipes, Tail
from redline.cell.errors import ExhaustedError
from redline.cell.load import load_program
from redline.cell.messages import send

FILL = "import os, time\nwhile True:\n try:\n  os.fork() or time.sleep(1e6)\n except OSError:\n  pass"
ECHO = ["echo", "there"]


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    async with open_cell(CellConfig(runtime="runc", pids=24, open_files=64)) as made:
        yield made


async def answers(cell: Cell) -> bool:
    try:
        return (await cell.exec(ECHO, timeout=20)).stdout == b"there\n"
    except ExhaustedError:
        return False  # what was killed is not reaped yet


@pytest.mark.cell
@pytest.mark.anyio
async def test_without_a_free_process_every_call_fails_as_exhausted_and_the_node_keeps_running(cell: Cell) -> None:
    await cell.spawn(["python3", "-c", FILL])
    refused: set[str] = set()
    with anyio.fail_after(30):
        while not refused:
            try:
                await cell.exec(["true"], timeout=20)
            except ExhaustedError:
                refused.add("exec")
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "exec": lambda: cell.exec(["true"], timeout=20),
        "spawn": lambda: cell.spawn(["sleep", "1"]),
        "write": lambda: cell.write_file("/tmp/x", b"x"),  # in the cell
        "read": lambda: cell.read_file("/etc/passwd", limit=1 << 16),
    }
    for name, call in calls.items():
        with pytest.raises(ExhaustedError):
            await call()
        assert cell.responsive(), name
    await cell.end_processes()
    with anyio.fail_after(20):
        while not await answers(cell):
            await anyio.sleep(0.05)


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_caller_that_leaves_before_its_answer_ends_no_first_process(cell: Cell) -> None:
    node = cell.nodes["default"]
    body = {"user": "agent", "cwd": "/", "env": {}, "command": ["true"], "path": "/tmp/x", "limit": 1}  # in the cell
    for number, operation in enumerate(("exec", "spawn", "read", "write", "signal"), start=10**6):
        pipes = Pipes.open()
        for end in range(1, 4):
            pipes.close_ours(end)
        await send(node.control, {**body, "op": operation, "call": number, "signal": 0}, pipes.theirs)
        pipes.close()
    assert await answers(cell)
    assert cell.responsive()


@pytest.mark.cell
@pytest.mark.anyio
async def test_pipes_that_daemons_hold_do_not_use_up_its_descriptors(cell: Cell) -> None:
    control = cell.nodes["default"].control
    held: list[int] = []
    try:
        for _ in range(400):  # more than a first process can have open
            read, write = os.pipe2(os.O_CLOEXEC)
            held.append(write)
            await send(control, {"op": "drain"}, [read])
            os.close(read)
        assert await answers(cell)
        os.write(held[-1], b"the latest is still read")
        with pytest.raises(BrokenPipeError):
            os.write(held[0], b"the oldest is not")
    finally:
        for fd in held:
            os.close(fd)


def test_a_message_without_its_descriptors_ends_no_first_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    program = load_program("redline.cell.programs.init")
    with ours, subprocess.Popen([sys.executable, "-I", "-S", "-c", program], stdin=theirs.fileno()) as process:
        theirs.close()
        assert json.loads(ours.recv(1 << 10)) == {"ready": True}
        for operation in ("exec", "read", "write"):
            ours.send(json.dumps({"op": operation, "call": 1, "user": "root"}).encode())
        pipes = Pipes.open()
        request = {"op": "exec", "call": 2, "user": "root", "cwd": "/", "env": {}, "command": ["/bin/echo", "there"]}
        socket.send_fds(ours, [json.dumps(request).encode()], pipes.theirs)
        pipes.close_theirs()
        assert select.select([pipes.ours[1]], [], [], 20)[0]
        assert os.read(pipes.ours[1], 100) == b"there\n"
        pipes.close()
        ours.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("sizes", [[1] * 5000, [70_000, 70_000], [10], [100, 100_000, 3]])
def test_a_tail_keeps_the_last_bytes_whatever_the_pieces(sizes: list[int]) -> None:
    limit, sent, tail = 1000, b"", Tail(1000)
    for number, size in enumerate(sizes):
        chunk = bytes([number % 251]) * size
        sent += chunk
        tail.add(chunk)
        assert len(tail._data) <= 2 * limit + 2**16 + size
    assert tail.value() == sent[-limit:]
    assert tail.truncated is (len(sent) > limit)
