"""The attendant as a program in namespaces of its own, without a runtime."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from redline.cell.attendant import Attendant
from redline.cell.errors import CellError, CellGoneError
from redline.cell.load import load_program

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

PROGRAM = load_program("redline.cell.programs.attendant")
NAMESPACES = ["unshare", "--user", "--map-root-user", "--net", "--ipc", "--pid", "--fork", "--mount-proc"]
FIRST = """
import fcntl, os, signal, socket, struct, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))  # the loopback goes up
if os.fork() == 0:
    scope = {"__name__": "attendant"}
    exec(compile(sys.argv[1], "attendant", "exec"), scope)
    scope["main"](0, 0, scope["Lease"](float(sys.argv[2])), "default")
    os._exit(0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    signal.pause()
"""
ECHO = """
import os, socket
def main(request, fds):
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        os.setsid()
        while True:
            connection, _ = listener.accept()
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.close()
    return {"port": listener.getsockname()[1]}, []
"""
CALLER = """
import os, socket
def main(request, fds):
    pid = os.fork()
    if pid == 0:
        made = socket.socket(socket.AF_UNIX)
        made.connect(request["path"])
        made.sendall(request["say"].encode())
        if request["pass"]:
            socket.send_fds(made, [b"!"], [0])
        answer = made.recv(100)
        with open(request["path"] + ".heard", "wb") as file:
            file.write(answer)
        os._exit(0)
    return {"pid": pid}, []
"""


@asynccontextmanager
async def attendant(lease: float = 30.0) -> AsyncIterator[tuple[Attendant, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [*NAMESPACES, sys.executable, "-I", "-S", "-c", FIRST, PROGRAM, str(lease)], stdin=theirs.fileno()
        )
    stream = ours.detach()
    made = Attendant("default", stream, stream, lease)
    try:
        await made.ready()
        yield made, process
    finally:
        await anyio.to_thread.run_sync(made.close)
        assert process.wait(10) == 0  # its end is the end of everything in the node


def echo(data: bytes) -> str:
    return f"def main(request, fds):\n    return {{'got': {data!r}.decode()}}, []"


async def test_a_program_gets_its_request_and_data_and_gives_an_answer() -> None:
    program = """
import os
def main(request, fds):
    return {"request": request, "size": os.fstat(fds[-1]).st_size, "first": os.pread(fds[-1], 3, 0).decode()}, []
"""
    async with attendant() as (made, _):
        answer, held = await made.join(program, {"a": 1}, data=b"abc" + bytes(3_000_000))
        assert answer == {
            "request": {"proc": "/proc", "a": 1, "inits": {"default": 1}},
            "size": 3_000_003,
            "first": "abc",
        }
        assert held == []
        answer, _ = await made.join(program, {}, data=b"")
        assert answer["size"] == 0


async def test_a_program_that_raises_or_takes_too_long_is_an_error() -> None:
    async with attendant() as (made, _):
        with pytest.raises(CellError, match="ValueError: no"):
            await made.join("def main(request, fds):\n    raise ValueError('no')", {})
        with pytest.raises(CellError, match="without an answer"):
            await made.join("import os\ndef main(request, fds):\n    os._exit(0)", {})
        with pytest.raises((TimeoutError, CellError)):
            await made.join("import time\ndef main(request, fds):\n    time.sleep(60)", {}, timeout=0.2)
        assert (await made.join(echo(b"still"), {}))[0] == {"got": "still"}


async def test_files_are_held_written_and_released(tmp_path: Path) -> None:
    opening = "import os\ndef main(request, fds):\n    return {}, [os.open(request['path'], os.O_RDWR | os.O_CREAT)]"
    reading = "import os\ndef main(request, fds):\n    return {'text': os.pread(fds[0], 20, 4).decode()}, []"
    async with attendant() as (made, _):
        _, (handle,) = await made.join(opening, {"path": str(tmp_path / "file")})
        await made.write(handle, 4, b"written")
        assert (await made.join(reading, {}, held=[handle]))[0] == {"text": "written"}
        await made.release([handle])
        with pytest.raises(CellError):
            await made.join(reading, {}, held=[handle])
    assert (tmp_path / "file").read_bytes() == bytes(4) + b"written"


async def test_connections_carry_more_than_a_window_both_ways_and_a_stalled_one_blocks_no_other() -> None:
    async with attendant() as (made, _):
        port = (await made.join(ECHO, {}))[0]["port"]
        stalled = await made.connect("127.0.0.1", port, 2.0)
        with stalled:
            with pytest.raises(BlockingIOError):
                while True:
                    stalled.send(bytes(1 << 16))
            other = (await made.join(ECHO, {}))[0]["port"]
            data = os.urandom(3_000_000)
            assert await echoed(await made.connect("127.0.0.1", other, 2.0), data) == data
        with pytest.raises(ConnectionRefusedError):
            await made.connect("127.0.0.1", 1, 2.0)


async def echoed(connected: socket.socket, data: bytes) -> bytes:
    got = bytearray()

    async def send() -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[connected.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(connected)
        connected.shutdown(socket.SHUT_WR)

    with connected, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            while True:
                await anyio.wait_readable(connected)
                if not (more := connected.recv(1 << 16)):
                    return bytes(got)
                got += more
    raise AssertionError


async def accepted(door: socket.socket) -> socket.socket:
    with anyio.fail_after(5):
        await anyio.wait_readable(door)
    _, fds, _, _ = socket.recv_fds(door, 4096, 1)
    connection = socket.socket(fileno=fds[0])
    connection.setblocking(False)
    return connection


async def packet(connection: socket.socket) -> tuple[str, bytes]:
    with anyio.fail_after(5):
        await anyio.wait_readable(connection)
    data = connection.recv(1 << 17)
    length = int.from_bytes(data[:4], "big")
    return data[4 : 4 + length].decode(), data[4 + length :]


@pytest.mark.parametrize("passing", [False, True])
async def test_the_sender_of_every_packet_on_the_tether_is_attested(tmp_path: Path, passing: bool) -> None:
    path = str(tmp_path / "door")
    async with attendant() as (made, _):
        door = await made.listen(path)
        with door:
            answer, _ = await made.join(CALLER, {"path": path, "say": "hello", "pass": passing})
            with await accepted(door) as connection:
                said, data = await packet(connection)
                assert f'"pid": {answer["pid"]}, "start": ' in said
                assert '"ancestors": [[' in said
                if data == b"hello" and passing:  # else the kernel joined the two messages of the one sender
                    said, more = await packet(connection)
                    data += more
                assert data == (b"hello!" if passing else b"hello")
                assert f'"passed": {"true" if passing else "false"}' in said
                connection.send(b"answer")
                assert await heard(tmp_path / "door.heard") == b"answer"


async def heard(path: Path) -> bytes:
    with anyio.fail_after(5):
        while not path.exists() or not path.read_bytes():
            await anyio.sleep(0.01)
    return path.read_bytes()


async def test_too_many_connections_are_closed_for_the_process_that_has_most(tmp_path: Path) -> None:
    path = str(tmp_path / "door")
    crowd = """
import os, socket, time
def main(request, fds):
    if os.fork() == 0:
        held = []
        for _ in range(600):
            made = socket.socket(socket.AF_UNIX)
            made.connect(request["path"])
            held.append(made)
        time.sleep(60)
    return {}, []
"""
    async with attendant() as (made, _):
        door = await made.listen(path)
        with door:
            await made.join(CALLER, {"path": path, "say": "first", "pass": False})
            with await accepted(door) as first:
                await made.join(crowd, {"path": path})
                others = [await accepted(door) for _ in range(600)]
                first.send(b"still served")
                assert await heard(tmp_path / "door.heard") == b"still served"
                with anyio.fail_after(5):
                    await anyio.wait_readable(others[0])
                assert others[0].recv(10) == b""  # the oldest of the crowd was closed
                for other in others:
                    other.close()


async def test_a_signal_reaches_every_process_except_the_first_and_the_attendant() -> None:
    sleeper = """
import os, time
def main(request, fds):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
    return {"pid": pid}, []
"""
    state = (
        "def main(request, fds):\n    return {'state': open('/proc/%d/stat' % request['pid']).read().split()[2]}, []"
    )
    async with attendant() as (made, process):
        pid = (await made.join(sleeper, {}))[0]["pid"]
        await made.signal(signal.SIGSTOP)
        with anyio.fail_after(5):  # a process that just began is stopped where it next runs
            while (await made.join(state, {"pid": pid}))[0] != {"state": "T"}:
                await anyio.sleep(0.01)
        assert process.poll() is None


async def dead(process: subprocess.Popen[bytes]) -> bool:
    with anyio.move_on_after(5):
        while process.poll() is None:
            await anyio.sleep(0.02)
    return process.poll() is not None


def stop_thread_beating(made: Attendant) -> Callable[[], None]:
    """Hold the lock that the beat needs, as if the process were stopped."""
    made._stream._lock.acquire()
    return made._stream._lock.release


async def test_silence_for_longer_than_the_lease_ends_the_node() -> None:
    async with attendant(lease=1.0) as (made, process):
        await anyio.sleep(1.5)
        assert process.poll() is None  # beats arrive
        release = stop_thread_beating(made)
        try:
            assert await dead(process)
        finally:
            release()
        with pytest.raises(CellGoneError):
            await made.join(echo(b""), {})


async def test_a_broken_stream_ends_every_call_and_connection() -> None:
    async with attendant() as (made, process):
        port = (await made.join(ECHO, {}))[0]["port"]
        connected = await made.connect("127.0.0.1", port, 2.0)
        with connected:
            async with anyio.create_task_group() as group:

                async def waits() -> None:
                    with pytest.raises(CellGoneError):
                        await made.join("import time\ndef main(request, fds):\n    time.sleep(60)", {})

                group.start_soon(waits)
                await anyio.sleep(0.2)
                await anyio.to_thread.run_sync(made.close)
            with anyio.fail_after(5):
                await anyio.wait_readable(connected)
            assert connected.recv(10) == b""
        assert await dead(process)
        assert not made.is_serving
