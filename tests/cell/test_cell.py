import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from redline.cell import Cell, CellConfig, CellError, CellGoneError, open_cell
from tests.cell.traces import Traces, control_groups

pytestmark = [pytest.mark.cell, pytest.mark.anyio]


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    async with open_cell(CellConfig()) as made:
        yield made


async def test_a_command_is_the_agent_and_not_root(cell: Cell) -> None:
    done = await cell.exec(["sh", "-c", "id -u; id -G; pwd; echo $HOME; env | sort"])
    lines = done.stdout.decode().splitlines()
    assert lines[:4] == ["1000", "1000", "/home/agent", "/home/agent"]
    assert {line.split("=")[0] for line in lines[4:]} <= {"HOME", "LANG", "PATH", "TERM", "PWD", "SHLVL", "_", "OLDPWD"}


async def test_a_call_ends_with_its_main_process_even_if_a_daemon_holds_the_pipes(cell: Cell) -> None:
    begun = time.monotonic()
    done = await cell.exec(["sh", "-c", "sleep 30 & echo here; exit 7"])
    assert (done.returncode, done.stdout) == (7, b"here\n")
    assert time.monotonic() - begun < 5


async def test_a_daemon_that_writes_after_its_call_keeps_running(cell: Cell) -> None:
    await cell.exec(["sh", "-c", "(sleep 0.2; yes | head -c 300000; echo alive >/tmp/sign) &"])
    with anyio.fail_after(10):
        while (await cell.exec(["test", "-s", "/tmp/sign"])).returncode != 0:
            await anyio.sleep(0.02)


ASKED_AND_LISTED = """
import os
def main(request, fds):
    space = os.readlink("/proc/%d/ns/pid" % request["inits"]["default"])
    asked = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/ns/pid" % name) == space:
                asked.append(int(name))
        except OSError:
            continue
    return {"asked": sorted(asked), "listed": sorted(pid for _, pid in cell_processes(request["inits"]))}, []
"""


async def test_the_processes_of_a_cell_are_those_of_its_pid_namespace() -> None:
    async with open_cell(CellConfig(runtime="runc")) as cell, open_cell(CellConfig(runtime="runc")) as other:
        for each in (cell, other):
            await each.exec(["sh", "-c", "for i in 1 2 3; do setsid sleep 600 & done"])
        found, _ = await cell.run_with_cell_privileges(ASKED_AND_LISTED, {})
    assert found["listed"] == found["asked"]
    assert len(found["listed"]) == 1 + 3


async def test_the_tail_of_a_flood_is_kept(cell: Cell) -> None:
    done = await cell.exec(["sh", "-c", "head -c 50000000 /dev/zero | tr '\\0' x; echo the end"], output_limit=1000)
    assert done.truncated
    assert len(done.stdout) == 1000
    assert done.stdout.endswith(b"x" * 10 + b"the end\n")


async def test_a_timeout_also_kills_what_the_command_started_in_other_sessions(cell: Cell) -> None:
    with pytest.raises(TimeoutError):
        await cell.exec(["sh", "-c", "setsid sleep 4242 & sh -c 'sleep 4243' & sleep 4244"], timeout=0.3)
    with anyio.fail_after(5):
        while b"sleep" in (await cell.exec(["ps", "axo", "args"])).stdout:
            await anyio.sleep(0.02)


async def test_a_command_that_does_not_exist_and_one_without_permission(cell: Cell) -> None:
    assert (await cell.exec(["no-such-program"])).returncode == 127
    with pytest.raises(PermissionError):
        await cell.exec(["/etc/passwd"])


async def test_a_long_input_is_passed_on(cell: Cell) -> None:
    given = os.urandom(5_000_000)
    assert (await cell.exec(["cat"], input=given)).stdout == given


async def test_a_long_command_line_is_passed_on(cell: Cell) -> None:
    words = ["x" * 100_000] * 8
    done = await cell.exec(["sh", "-c", "echo $#", "sh", *words])
    assert done.stdout == b"8\n"


async def test_files_keep_the_agents_rights(cell: Cell) -> None:
    await cell.write_file("a/b/file", b"text")
    assert await cell.read_file("a/b/file", limit=100) == b"text"
    with pytest.raises(IsADirectoryError):
        await cell.read_file("a", limit=100)
    with pytest.raises(FileNotFoundError):
        await cell.read_file("missing", limit=100)
    with pytest.raises(OverflowError):
        await cell.read_file("a/b/file", limit=3)
    with pytest.raises(OSError) as refused:
        await cell.write_file("/etc/passwd", b"x")
    assert refused.value.errno in (errno.EROFS, errno.EACCES)


async def test_a_fifo_or_an_endless_device_does_not_hang_the_harness(cell: Cell) -> None:
    await cell.exec(["mkfifo", "/tmp/pipe"])
    with anyio.fail_after(10):
        assert await cell.read_file("/tmp/pipe", limit=100) == b""
        with pytest.raises(OverflowError):
            await cell.read_file("/dev/zero", limit=100)


async def test_a_spawned_daemon_is_identified_by_its_pid_on_the_host(cell: Cell) -> None:
    process = await cell.spawn(["sleep", "300"])
    with anyio.fail_after(10):
        while Path(f"/proc/{process.pid}/cmdline").read_bytes() != b"sleep\x00300\x00":  # it has yet to become that
            await anyio.sleep(0.01)


async def test_a_listener_inside_is_reached_and_the_host_does_not_listen(cell: Cell) -> None:
    await cell.spawn([cell.interpreter, "-m", "http.server", "8321", "--bind", "127.0.0.1"], cwd="/tmp")
    with anyio.fail_after(10):
        while True:
            try:
                connected = await cell.connect(8321)
                break
            except OSError:
                await anyio.sleep(0.02)
    connected.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 8321), 0.5)


async def test_a_unix_listener_is_reached_but_no_link_is_followed(cell: Cell) -> None:
    listener = (
        "import socket,os,time; s=socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); os.symlink('/tmp/s','/tmp/link'); "
        "s.listen(); c,_=s.accept(); c.sendall(b'hello'); c.close(); time.sleep(60)"
    )
    await cell.spawn([cell.interpreter, "-c", listener])
    with anyio.fail_after(10):
        while (await cell.exec(["test", "-L", "/tmp/link"])).returncode:
            await anyio.sleep(0.02)
    with pytest.raises(OSError, match="symbolic links"):
        await cell.connect_unix("/tmp/link")
    connected = await cell.connect_unix("/tmp/s")
    await anyio.wait_readable(connected)
    assert connected.recv(10) == b"hello"
    connected.close()


async def test_a_frozen_cell_stops_and_continues_after_the_thaw(cell: Cell) -> None:
    await cell.spawn(["sh", "-c", "while :; do echo x >>/tmp/log; done"])
    await anyio.sleep(0.1)
    await cell.freeze()
    path = f"/proc/{cell.nodes['default'].init_pid}/root/tmp/log"
    program = f"import os\ndef main(request, fds):\n    return {{'size': os.stat({path!r}).st_size}}, []\n"
    first, _ = await cell.run_with_cell_privileges(program, {})
    await anyio.sleep(0.1)
    second, _ = await cell.run_with_cell_privileges(program, {})
    await cell.thaw()
    await anyio.sleep(0.1)
    third, _ = await cell.run_with_cell_privileges(program, {})
    assert first["size"] == second["size"] < third["size"]


async def test_a_fork_bomb_is_bounded_and_ends_with_the_kill(cell: Cell) -> None:
    await cell.exec(["sh", "-c", "bomb() { bomb | bomb & }; bomb"])
    await anyio.sleep(0.5)
    init = cell.nodes["default"].init
    assert await cell.kill() < 5
    with anyio.fail_after(10):  # on a loaded host, the warden collects ended processes later
        while Path(f"/proc/{init.pid}").exists():
            await anyio.sleep(0.05)
    with pytest.raises(CellGoneError):
        await cell.exec(["true"])


FORK_UNTIL_REFUSED = """
import os, time
try:
    while os.fork():
        pass
except OSError:
    pass
time.sleep(1000)
"""


async def test_an_unhealthy_node_is_distinguished_from_a_failing_command(cell: Cell) -> None:
    await cell.spawn([cell.interpreter, "-c", FORK_UNTIL_REFUSED])
    await anyio.sleep(0.5)
    with pytest.raises(CellError, match="can start no process"):
        await cell.exec(["true"])


async def test_a_joined_program_has_no_power_over_the_host(cell: Cell) -> None:
    program = "def main(request, fds):\n    open('/etc/hostname', 'a').close()\n    return {}, []\n"
    with pytest.raises(CellError, match="Permission"):
        await cell.run_with_cell_privileges(program, {})


async def test_a_joined_program_cannot_be_led_out_by_a_link(cell: Cell) -> None:
    await cell.exec(["ln", "-s", "/etc/passwd", "/home/agent/link"])
    program = """
import os
def main(request, fds):
    root = os.open("/proc/%d/root" % request["inits"]["default"], os.O_PATH)
    os.close(openat2_in_root(root, "/home/agent/link", os.O_RDONLY))
    return {}, []
"""
    with pytest.raises(CellError, match="OSError"):
        await cell.run_with_cell_privileges(program, {})


async def test_two_nodes_share_a_network_and_no_files_or_processes() -> None:
    async with open_cell(CellConfig(nodes=("default", "target"))) as cell:
        await cell.write_file("mark", b"x")
        assert (await cell.exec(["test", "-e", "/home/agent/mark"], node="target")).returncode == 1
        await cell.spawn(
            [cell.interpreter, "-m", "http.server", "8322", "--bind", "127.0.0.2"], node="target", cwd="/tmp"
        )
        assert b"8322" not in (await cell.exec(["ps", "ax"])).stdout
        with anyio.fail_after(10):
            while True:
                try:
                    (await cell.connect(8322, address="127.0.0.2", node="target")).close()
                    break
                except OSError:
                    await anyio.sleep(0.02)


@pytest.mark.long
async def test_nothing_is_left_of_many_cells_at_once() -> None:
    traces = Traces()

    async def one() -> None:
        async with open_cell(CellConfig(home_mib=16, tmp_mib=8)) as cell:
            traces.note(cell)
            await cell.exec(["sh", "-c", "setsid sleep 1000 & mkdir -p d; for i in $(seq 300); do : >d/$i; done"])

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert len(traces.folders) == 8
    assert traces.left() == []


HARNESS = """
import anyio, sys
from redline.cell import CellConfig, open_cell
async def main():
    async with open_cell(CellConfig()) as cell:
        await cell.spawn(["sh", "-c", "setsid sleep 1000 & trap '' TERM HUP; while :; do sleep 1000; done"])
        print(cell.cgroup, cell.nodes["default"].init_pid, cell.folder, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


@pytest.mark.long
@pytest.mark.parametrize("signal_name", ["KILL", "STOP", "INT"])
async def test_a_cell_does_not_outlive_its_harness(signal_name: str) -> None:
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert harness.stdout is not None
    cgroup, init, folder = harness.stdout.readline().split()
    try:
        assert Path(f"/proc/{init}").exists()
        begun = time.monotonic()
        subprocess.run(["kill", f"-{signal_name}", str(harness.pid)], check=True)
        while Path(f"/proc/{init}").exists() or _living(cgroup):
            assert time.monotonic() - begun < 5, "a process of the cell outlived its harness by five seconds"
            await anyio.sleep(0.02)
        while Path(folder).exists():
            assert time.monotonic() - begun < 10, "what the cell left was not swept"
            await anyio.sleep(0.02)
    finally:
        harness.kill()
        harness.wait()
        harness.stdout.close()
    assert not control_groups(cgroup)


def _living(cgroup: str) -> bool:
    found = [
        path
        for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        for path in Path(root, cgroup).glob("*/cgroup.procs")
    ]
    return any(path.read_text() for path in found if path.exists())


@pytest.mark.long
async def test_a_cell_is_killed_at_its_maximum_age() -> None:
    async with open_cell(CellConfig(wall_seconds=5)) as cell:
        init = cell.nodes["default"].init_pid
        with anyio.fail_after(10):
            while Path(f"/proc/{init}").exists():
                await anyio.sleep(0.1)


@pytest.mark.long
async def test_what_a_warden_could_not_remove_is_swept_by_the_next_harness() -> None:
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert harness.stdout is not None
    _, init, folder = harness.stdout.readline().split()
    with open(f"/proc/{harness.pid}/task/{harness.pid}/children") as file:
        warden = file.read().split()
    subprocess.run(["kill", "-KILL", *warden, str(harness.pid)], check=True)
    harness.wait()
    harness.stdout.close()
    with anyio.fail_after(5):
        while Path(f"/proc/{init}").exists():  # its control socket closed with the harness
            await anyio.sleep(0.02)
    async with open_cell(CellConfig()):
        assert not Path(folder).exists()


TAKE_MEMORY = "held = []\nfor _ in range(200): held.append(bytearray(b'x') * (8 << 20))\nprint('all of it')\n"


async def test_memory_beyond_the_limit_ends_the_process_that_takes_it_and_not_the_cell() -> None:
    async with open_cell(CellConfig(home_mib=16, tmp_mib=8, var_tmp_mib=8, shm_mib=8, working_mib=128)) as cell:
        done = await cell.exec([cell.interpreter, "-I", "-S", "-c", TAKE_MEMORY], timeout=60)
        assert done.returncode == 128 + 9
        assert (await cell.exec(["echo", "alive"])).stdout == b"alive\n"


async def test_files_beyond_the_quota_are_refused() -> None:
    async with open_cell(CellConfig(home_mib=4)) as cell:
        done = await cell.exec(["sh", "-c", "head -c 8000000 /dev/zero >big; stat -c %s big"])
        assert b"No space left" in done.stderr
        assert int(done.stdout) <= 4 << 20
