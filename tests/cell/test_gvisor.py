"""Cells on gVisor: the harness observes them differently than on runc, and callers see no difference."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from redline.cell import Cell, CellConfig, open_cell
from redline.cell.errors import CellGoneError
from redline.cell.programs.prelude import is_running
from redline.cell.spec import TETHER_FOLDER
from redline.cell.state import state_folder

pytestmark = [pytest.mark.anyio, pytest.mark.runsc]

SERVER = """
import socket
listener = socket.create_server((%r, 4000))
while True:
    connection, _ = listener.accept()
    connection.sendall(%r)
    connection.close()
"""
STATES = """
import os
def main(request, fds):
    found = {}
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%d/stat" % int(name)) as file:
                found[name] = file.read().rpartition(")")[2].split()[0]
        except (ValueError, FileNotFoundError):
            continue  # no process, or one that has just ended
    return found, []
"""


@asynccontextmanager
async def cell_of(*nodes: str, **quotas: int) -> AsyncIterator[Cell]:
    config = CellConfig.model_validate({"runtime": "runsc", "nodes": nodes or ("default",), **quotas})
    async with open_cell(config) as cell:
        yield cell


async def shell(cell: Cell, script: str, node: str = "default") -> str:
    done = await cell.exec(["sh", "-c", script], node=node, timeout=30)
    return (done.stdout + done.stderr).decode()


async def answer(connected: socket.socket) -> bytes:
    with connected, anyio.fail_after(5):
        await anyio.wait_readable(connected)
        return connected.recv(100)


@pytest.mark.long
async def test_a_cell_supports_every_operation_and_leaves_nothing() -> None:
    async with cell_of() as cell:
        folder = cell.folder
        init = cell.nodes["default"].init
        assert cell.observer == "inside"
        assert not cell.has_freezer

        # commands, files, daemons
        assert (await cell.exec(["cat"], input=b"given")).stdout == b"given"
        assert (await cell.exec(["sh", "-c", "exit 7"])).returncode == 7
        await cell.write_file("notes/a", b"text")
        assert await cell.read_file("notes/a", limit=10) == b"text"
        with pytest.raises(FileNotFoundError):
            await cell.read_file("none", limit=10)
        thread = "import threading; made = threading.Thread(target=print); made.start(); made.join()"
        assert (await cell.exec([cell.interpreter, "-c", thread])).returncode == 0  # clone3 must seem not to exist
        daemon = await cell.spawn(["sleep", "1000"])
        with pytest.raises(TimeoutError):
            await cell.exec(["sleep", "1000"], timeout=0.5)

        # what is read-only, what is hidden, what is bounded
        said = await shell(
            cell, "touch /x /usr/x /usr/bin/x /etc/x /run/accelerator/x; ls -A /usr/local; ls -A /usr/src"
        )
        assert said.count("cannot touch") == 5
        assert len(said.splitlines()) == 5
        assert "Seccomp:\t2" in await shell(cell, "cat /proc/self/status")
        assert "Operation not permitted" in await shell(cell, "unshare --user true")
        assert "No space left" in await shell(cell, "head -c 100M /dev/zero > /var/tmp/x")
        assert "Cannot fork" in await shell(cell, "for i in $(seq 300); do sleep 20 & done")

        # operations from outside
        states, _ = await cell.run_with_cell_privileges(STATES, {})
        assert states[str(daemon.pid)] == "S"
        await cell.freeze()
        states, _ = await cell.run_with_cell_privileges(STATES, {})
        assert states[str(daemon.pid)] == "T"
        await cell.thaw()
        await cell.end_processes()
        states, _ = await cell.run_with_cell_privileges(STATES, {})
        assert str(daemon.pid) not in states
        assert cell.responsive()
        assert (await cell.exec(["true"])).returncode == 0
        await cell.spawn([cell.interpreter, "-c", SERVER % ("127.0.0.1", b"served")])
        assert await answer(await reached(cell)) == b"served"

        await cell.kill()
        assert not is_running(init.pid, init.start)
        with pytest.raises(CellGoneError):
            await cell.exec(["true"])
    assert not folder.exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{cell.cgroup}"))


async def reached(cell: Cell, address: str = "127.0.0.1") -> socket.socket:
    with anyio.fail_after(10):
        while True:
            try:
                return await cell.connect(4000, address=address)
            except ConnectionRefusedError:
                await anyio.sleep(0.05)


@pytest.mark.long
async def test_two_nodes_share_a_network_and_nothing_else() -> None:
    async with cell_of("default", "target") as cell:
        await cell.spawn([cell.interpreter, "-c", SERVER % ("127.0.0.2", b"target")], node="target")
        assert await answer(await reached(cell, "127.0.0.2")) == b"target"
        assert "target" in await shell(cell, "exec 3<>/dev/null; curl -s --http0.9 127.0.0.2:4000")
        await cell.write_file("/tmp/only-here", b"")
        assert "only-here" not in await shell(cell, "ls /tmp", "target")
        here, _ = await cell.run_with_cell_privileges(STATES, {}, node="default")
        there, _ = await cell.run_with_cell_privileges(STATES, {}, node="target")
        assert len(here) < len(there)  # the server is seen on its own node alone


async def test_the_attendant_binds_the_tether_and_names_each_sender() -> None:
    path = f"{TETHER_FOLDER}/accelerator.sock"
    caller = f"import os, socket; made = socket.socket(1); made.connect({path!r}); "
    caller += "made.sendall(b'%d' % os.getpid()); made.recv(9)"
    async with cell_of() as cell:
        door = await cell.attendant("default").listen(path)
        with door:
            await cell.spawn([cell.interpreter, "-c", caller])
            with anyio.fail_after(10):
                await anyio.wait_readable(door)
            _, (fd,), _, _ = socket.recv_fds(door, 4096, 1)
            with socket.socket(fileno=fd) as connection:
                connection.setblocking(False)
                with anyio.fail_after(10):
                    await anyio.wait_readable(connection)
                packet = connection.recv(1 << 16)
    length = int.from_bytes(packet[:4], "big")
    assert f'"pid": {packet[4 + length :].decode()},' in packet[4 : 4 + length].decode()


HARNESS = """
import anyio, sys, time
from redline.cell import CellConfig, open_cell
async def main():
    async with open_cell(CellConfig(runtime="runsc")) as cell:
        await cell.spawn(["sh", "-c", "trap '' TERM HUP; setsid sleep 1000 & wait"])
        print(cell.nodes["default"].init.pid, cell.nodes["default"].init.start, cell.folder, flush=True)
        await anyio.sleep(100)
anyio.run(main)
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [9, 19], ids=["killed", "stopped"])
async def test_a_cell_does_not_outlive_its_harness(number: int) -> None:
    with subprocess.Popen([sys.executable, "-c", HARNESS], stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            pid, start, folder = (await anyio.to_thread.run_sync(harness.stdout.readline)).split()
            assert is_running(int(pid), int(start))
            harness.send_signal(number)
            with anyio.fail_after(6):
                while is_running(int(pid), int(start)) or Path(folder).exists():
                    await anyio.sleep(0.05)
        finally:
            harness.kill()
    assert state_folder().exists()


async def test_stopped_processes_continue_even_if_one_of_their_group_ends_meanwhile() -> None:
    async with cell_of() as cell:
        # One process of a group ends while another is stopped: gVisor sends the group SIGHUP for that.
        said = await shell(
            cell, "sleep 100 & kill -STOP $!; (sleep 0.1); kill -CONT $!; sleep 0.2; kill -0 $! && echo on"
        )
        assert said == "on\n"
