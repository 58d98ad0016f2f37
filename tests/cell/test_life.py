"""What ends a cell and what does not: stopped, killed, frozen, orphaned, late; and the drills that test it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from redline.cell import Cell, CellConfig, CellError, CellGoneError, open_cell
from redline.cell.footprint import Footprint
from redline.cell.load import load_program
from redline.cell.open import choose_runtime, start_cell
from redline.cell.state import state_folder
from redline.seal import drills
from redline.seal.drills import footprint_of, harnesses_with_cells
from tests.cell.traces import Traces, control_groups

pytestmark = [pytest.mark.cell, pytest.mark.anyio]

CONFIG = CellConfig(runtime="runc")
PATIENCE = 20.0


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    async with open_cell(CONFIG) as made:
        yield made


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():
            await anyio.sleep(0.01)


def warden_of(cell: Cell) -> int:
    return cell._warden._process.pid


# --- the drills; tests/scenarios shows with the full set of probes that they pass ---


async def nothing(cell: Cell) -> None:
    """A kill that ends no process."""


async def test_daemons_that_outlive_the_teardown_fail_the_drill() -> None:
    reason = await drills.daemons_gone(CONFIG, nothing)
    assert reason is not None and "process" in reason


async def test_a_kill_that_leaves_stopped_processes_fails_the_drill() -> None:
    async def kill_by_name(cell: Cell) -> None:
        await cell.exec(["sh", "-c", "kill -TERM -1"], timeout=5)

    reason = await drills.kill_drill(CONFIG.model_copy(update={"pids": 32}), kill_by_name)
    assert reason is not None and "survived" in reason


@pytest.mark.long
async def test_a_lease_that_is_too_long_fails_the_drill() -> None:
    reason = await drills.lease_drill(CONFIG, lease_seconds=60)
    assert reason is not None and reason.startswith("SIGSTOP") and "SIGKILL" not in reason


# --- frozen and stopped ---


async def test_a_frozen_cell_is_killed(cell: Cell) -> None:
    footprint = footprint_of(cell)
    await cell.exec(["sh", "-c", "setsid sleep 1000 &"])
    await cell.freeze()
    assert await cell.kill() < 5
    assert not footprint.live_pids()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_frozen_cell_ends_with_its_harness(number: signal.Signals) -> None:
    async with harnesses_with_cells(CONFIG) as (harness,):
        for cgroup in harness.footprint.cgroups:
            if (cgroup / "cgroup.freeze").exists():
                (cgroup / "cgroup.freeze").write_text("1")
        os.kill(harness.pid, number)
        await until(lambda: not harness.footprint.left_over() and not harness.folder.exists())


@pytest.mark.long
async def test_a_cell_whose_first_process_is_stopped_answers_late_and_is_removed() -> None:
    traces = Traces()
    async with open_cell(CONFIG) as cell:
        traces.note(cell)
        os.kill(cell.nodes["default"].init_pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await cell.exec(["true"], timeout=0.3)
    assert traces.left() == []


async def test_a_cell_whose_first_process_is_stopped_ends_with_its_harness() -> None:
    async with harnesses_with_cells(CONFIG) as (harness,):
        os.kill(harness.footprint.inits[0][0], signal.SIGSTOP)
        os.kill(harness.pid, signal.SIGKILL)
        await until(lambda: not harness.footprint.left_over() and not harness.folder.exists())


@pytest.mark.long
async def test_a_frozen_cell_is_killed_at_its_maximum_age() -> None:
    async with open_cell(CONFIG.model_copy(update={"wall_seconds": 5})) as cell:
        footprint = footprint_of(cell)
        await cell.freeze()
        assert footprint.live_pids()
        await until(lambda: not footprint.live_pids())
        with pytest.raises(CellGoneError):
            await cell.exec(["true"])
        with suppress(CellError):
            await cell.thaw()


# --- the warden ---


async def test_the_cells_of_a_killed_warden_end() -> None:
    traces = Traces()
    async with open_cell(CONFIG) as cell:
        traces.note(cell)
        await cell.exec(["sh", "-c", "setsid sleep 1000 &"])
        os.kill(warden_of(cell), signal.SIGKILL)
        await until(lambda: not traces.footprints[0].live_pids())
        for attempt in (
            cell.exec(["true"]),
            cell.freeze(),
            cell.run_with_cell_privileges("", {}),
            start_cell(CONFIG, cell._warden),
        ):
            with pytest.raises(CellGoneError):
                await attempt
        assert not cell.responsive()
    assert traces.left() == []


async def test_a_cell_whose_warden_is_killed_during_its_start_ends_too() -> None:
    warden = choose_runtime("runc").start_warden()
    traces: list[str] = []

    async def kill_in_the_midst() -> None:
        await until(lambda: any(warden.cells.glob("*/default/config.json")))
        traces.extend(path.name for path in warden.cells.iterdir())
        os.kill(warden._process.pid, signal.SIGKILL)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill_in_the_midst)
        with pytest.raises(CellGoneError):
            await start_cell(CONFIG, warden)
    await warden.aclose()
    assert traces and not warden.harness.owner.exists()
    assert not [path for name in traces for path in control_groups(f"pod-*-{name}")]


@pytest.mark.long
async def test_a_warden_that_was_stopped_does_not_take_a_live_harness_for_dead() -> None:
    # No shorter: with busy processors, a live harness can be silent for half a second.
    async with open_cell(CONFIG, lease_seconds=1.5) as cell:
        os.kill(warden_of(cell), signal.SIGSTOP)
        await anyio.sleep(2.5)
        os.kill(warden_of(cell), signal.SIGCHLD)  # as where one of its operations ended meanwhile
        os.kill(warden_of(cell), signal.SIGCONT)
        await anyio.sleep(1.0)
        assert (await cell.exec(["echo", "here"])).stdout == b"here\n"


async def test_a_cell_that_is_too_old_before_it_is_up_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Footprint.of
    asked = []

    def late(pids: list[int], user: int) -> Footprint:
        asked.append(pids)
        if len(asked) == 1:
            raise FileNotFoundError(f"/proc/{pids[0]}/cgroup")
        return known(pids, user)

    monkeypatch.setattr(Footprint, "of", late)
    monkeypatch.setattr(drills, "WALL_SECONDS", (1, 2))
    assert await drills.bounds_drill(CONFIG) is None
    assert len(asked) == 2


# --- teardown of large cells ---

MANY_FILES = """
import os
for number in range(20_000):
    if number % 500 == 0:
        os.makedirs(f"/home/agent/{number}", exist_ok=True)
    open(f"/home/agent/{number - number % 500}/{number}", "w").close()
deep = "/tmp"
for _ in range(200):
    deep += "/deep"
    os.mkdir(deep)
"""

MANY_SOCKETS = """
import os, socket, time
listener = socket.create_server(("127.0.0.1", 8400), backlog=400)
local = socket.socket(socket.AF_UNIX); local.bind("\\0local"); local.listen(400)
held = []
for _ in range(200):
    held.append(socket.create_connection(("127.0.0.1", 8400)))
    held.append(listener.accept()[0])
    held.append(socket.socket(socket.AF_UNIX)); held[-1].connect("\\0local")
    held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)); held[-1].bind(("127.0.0.1", 0))
    held.append(os.memfd_create("held"))
    held[-5].send(b"unread" * 1000)
print("up", flush=True)
time.sleep(1000)
"""


async def test_a_cell_with_thousands_of_files_is_removed() -> None:
    traces = Traces()
    async with open_cell(CONFIG) as cell:
        traces.note(cell)
        done = await cell.exec([cell.interpreter, "-I", "-S", "-c", MANY_FILES], timeout=60)
        assert done.returncode == 0, done.stderr
        begun = time.monotonic()
    assert time.monotonic() - begun < PATIENCE
    assert traces.left() == []


async def test_a_cell_with_hundreds_of_open_sockets_is_removed() -> None:
    traces = Traces()
    async with open_cell(CONFIG) as cell:
        traces.note(cell)
        await cell.exec(
            [
                "sh",
                "-c",
                'python=$1; shift; "$python" -I -S -c "$1" >/tmp/said 2>&1 &',
                "sh",
                cell.interpreter,
                MANY_SOCKETS,
            ]
        )
        with anyio.fail_after(PATIENCE):
            while (said := (await cell.exec(["cat", "/tmp/said"])).stdout) != b"up\n":
                assert not said, said
                await anyio.sleep(0.02)
        mine = [await cell.connect(8400) for _ in range(20)]  # a socket of the harness keeps the network itself alive
        begun = time.monotonic()
    assert time.monotonic() - begun < PATIENCE
    assert traces.left() == []
    for each in mine:
        each.close()


# --- a host without space ---

NO_ROOM = """
import anyio
from redline._errors import RedlineError
from redline.cell import CellConfig, open_cell
from redline.cell.state import state_folder
async def main():
    try:
        async with open_cell(CellConfig(runtime="runc")):
            print("made")
    except RedlineError as error:
        print(error)
anyio.run(main)
print(sorted(path.name for path in state_folder().iterdir()))
"""

FILLED = """
import anyio, os
from pathlib import Path
from redline.cell import CellConfig, open_cell
from redline.seal.drills import footprint_of
from redline.cell.state import state_folder
async def main():
    async with open_cell(CellConfig(runtime="runc")) as cell:
        try:
            (state_folder() / "filler").write_bytes(bytes(1 << 30))
        except OSError as error:
            print(error.strerror)
        print((await cell.exec(["echo", "goes on"])).stdout.decode().strip())
        footprint = footprint_of(cell)
        await cell.kill()
        print(footprint.live_pids())
    (state_folder() / "filler").unlink()
anyio.run(main)
print(sorted(path.name for path in state_folder().iterdir()))
"""


def on_a_disk_of(size: str, program: str) -> list[str]:
    """Run a program whose folder for cells is on a small disk of its own; return the lines of its output."""
    place = state_folder()
    # Not empty, or else a harness that ends meanwhile removes it, with the disk that is mounted there.
    with tempfile.TemporaryDirectory(dir=place):
        return _run_on(place, size, program)


def _run_on(place: Path, size: str, program: str) -> list[str]:
    script = f'mount --make-rprivate / && mount -t tmpfs -o size={size} tmpfs {place} && exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.host("a full disk for cells", how="really")
def test_on_a_full_disk_no_cell_is_made_and_nothing_is_left() -> None:
    said, left = on_a_disk_of("16k", NO_ROOM)
    assert "No space left on device" in said
    assert left == "[]"


@pytest.mark.long
def test_a_full_disk_ends_no_cell_and_does_not_prevent_its_end() -> None:
    assert on_a_disk_of("2m", FILLED) == ["No space left on device", "goes on", "set()", "[]"]


@pytest.mark.parametrize(
    "program", ["programs.warden", "programs.attendant", "programs.init", "docker.programs.manager"]
)
@pytest.mark.host("a clock that is set during a run", how="read")
def test_no_lease_depends_on_a_clock_that_can_be_set(program: str) -> None:
    text = load_program(f"redline.cell.{program}")
    assert not re.search(r"time\.time\(|CLOCK_REALTIME|datetime|localtime", text)
