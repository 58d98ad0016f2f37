"""An alarm stops a cell at once and permanently; the watch finds every change of its state, and nothing else."""

import os
import signal
from pathlib import Path

import anyio
import pytest

from redline.cell import Cell, CellConfig, CellError, CellGoneError, open_cell
from redline.cell.alarm import Alarm, RaisedAlarm, run_listener
from redline.cell.programs.cgroups import cgroup_folders
from redline.cell.programs.prelude import is_running, stat_fields
from redline.cell.watch import Watch
from redline.seal import quick_seal_of_all
from tests.cell.traces import resident_kib

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

LARGE_KIB = 300 << 10
STORM = "for i in $(seq 40); do setsid sh -c 'while :; do sleep 0.01; done' & done >/dev/null 2>&1"


def ticks(pid: int) -> bytes:
    """Return the processor time of a process."""
    return Path(f"/proc/{pid}/schedstat").read_bytes().split()[0]


async def test_a_stopped_cell_runs_nothing_starts_nothing_and_does_not_thaw() -> None:
    async with open_cell() as cell:
        busy = await cell.spawn(["sh", "-c", "while :; do :; done"])
        alarm = Alarm(cell)
        await alarm.raise_alarm("outsider", "somebody")
        await cell.thaw()
        before = ticks(busy.pid)
        await anyio.sleep(0.05)
        assert ticks(busy.pid) == before
        assert alarm.stopped == "frozen"
        assert await alarm.seconds_to_stop() < 5
        with pytest.raises(CellGoneError, match="outsider"):
            await cell.exec(["true"])
        with pytest.raises(CellGoneError, match="outsider"):
            await cell.connect(1)


@pytest.mark.long
async def test_the_agents_processes_end_frozen_before_the_seal_is_measured() -> None:
    async with open_cell(CellConfig(nodes=("default", "target"))) as cell:
        for node in cell.nodes:
            await cell.exec(["sh", "-c", STORM], node=node)
        sleeper = await cell.spawn(["sleep", "100"])
        alarm = Alarm(cell)
        await alarm.raise_alarm("outsider", "somebody")
        await alarm.empty()
        assert not is_running(sleeper.pid, sleeper.start)
        done = await cell.exec(["sh", "-c", "grep -hs ^State: /proc/[0-9]*/status"])
        alive = [line for line in done.stdout.decode().splitlines() if "zombie" not in line]
        assert len(alive) == 2, "the first process and this command"
        assert (await quick_seal_of_all(cell)).verified


async def test_a_cell_that_cannot_be_frozen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Cell) -> None:
        raise CellError("no freezer today")

    monkeypatch.setattr(Cell, "freeze", fail)
    async with open_cell() as cell:
        sleeper = await cell.spawn(["sleep", "100"])
        alarm = Alarm(cell)
        await alarm.raise_alarm("outsider", "somebody")
        assert alarm.stopped == "killed"
        assert not is_running(sleeper.pid, sleeper.start)
        with pytest.raises(CellError, match="killed"):
            await alarm.empty()


async def test_each_listener_is_called_once_and_a_listener_that_fails_does_not_keep_the_cell_running() -> None:
    told: list[RaisedAlarm] = []

    def fail(raised: RaisedAlarm) -> None:
        told.append(raised)
        raise OSError("disk full")

    token = run_listener.set(told.append)
    try:
        async with open_cell() as cell:
            alarm = Alarm(cell, "t-1")
            alarm.on_raised(told.append)
            await alarm.raise_alarm("outsider", "one")
            await alarm.raise_alarm("outsider", "two")
            assert told == [RaisedAlarm("outsider", "one", "t-1")] * 2
        async with open_cell() as cell:
            alarm = Alarm(cell)
            alarm.on_raised(fail)
            with pytest.raises(OSError, match="disk full"):
                await alarm.raise_alarm("outsider", "one")
            assert alarm.stopped == "frozen"
    finally:
        run_listener.reset(token)


@pytest.mark.long
async def test_the_watch_finds_nothing_in_a_busy_cell() -> None:
    async with open_cell(CellConfig(nodes=("default", "target"))) as cell:
        watch = Watch(cell)
        for node in cell.nodes:
            await cell.exec(["sh", "-c", STORM], node=node)
        assert watch.sees
        assert [watch.check() for _ in range(20)] == [None] * 20


@pytest.mark.long
@pytest.mark.runsc
async def test_the_watch_finds_nothing_in_a_cell_with_its_own_kernel() -> None:
    async with open_cell(CellConfig(runtime="runsc")) as cell:
        watch = Watch(cell)
        await cell.exec(["sh", "-c", STORM])
        assert [watch.check() for _ in range(5)] == [None] * 5


async def test_a_cell_that_is_gone_is_no_breach() -> None:
    async with open_cell() as cell:
        watch = Watch(cell)
        await cell.kill()
        assert watch.check() is None


async def test_a_process_that_left_the_cgroup_is_found() -> None:
    async with open_cell() as cell:
        watch = Watch(cell)
        sleeper = await cell.spawn(["sleep", "100"])
        for folder in cgroup_folders(cell.cgroup):
            (Path(folder).parent / "cgroup.procs").write_text(str(sleeper.pid))
        breach = watch.check()
        assert breach is not None
        assert (breach.kind, breach.detail) == (
            "stranger",
            f"process {sleeper.pid} of the cell is in no cgroup of the cell",
        )


@pytest.mark.parametrize("kind", ["parent", "net", "user", "mnt"])
async def test_a_first_process_that_changed_its_namespaces_is_found(kind: str) -> None:
    async with open_cell() as cell:
        watch = Watch(cell)
        watch._first["default"][kind] = "elsewhere"  # the watch remembers another place than it sees now
        breach = watch.check()
        assert breach is not None
        assert breach.kind == "moved"
        assert f"changed its {kind}" in breach.detail


async def test_a_first_process_that_outlives_its_warden_is_no_breach() -> None:
    async with open_cell() as cell:
        watch = Watch(cell)
        first, warden = cell.nodes["default"].init.pid, cell._warden._process.pid
        parents = []
        os.kill(first, signal.SIGSTOP)  # it does not see the end of its warden
        os.kill(warden, signal.SIGKILL)
        while fields := stat_fields(first):
            parents.append(int(fields[1]))
            assert watch.check() is None
        assert parents[-1] != warden, "it ended with its warden"


async def test_a_warden_that_is_ending_and_was_not_waited_for_is_no_breach() -> None:
    async with open_cell() as cell:
        watch = Watch(cell)
        first, warden = cell.nodes["default"].init.pid, cell._warden._process
        os.kill(first, signal.SIGSTOP)
        with warden._waitpid_lock:  # type: ignore[attr-defined] # another thread that waits: `poll` then knows nothing
            warden.kill()
            while stat_fields(first)[1] == str(warden.pid).encode():
                await anyio.sleep(0.001)
            assert warden.poll() is None
            assert watch.check() is None


async def test_a_large_process_that_is_ending_is_no_stranger() -> None:
    async with open_cell() as cell:
        watch = Watch(cell)
        sleeper = await cell.spawn(
            ["python3", "-c", f"import time; kept = b'x' * ({LARGE_KIB} << 10); time.sleep(100)"]
        )
        while resident_kib(sleeper.pid) < LARGE_KIB:
            await anyio.sleep(0.05)
        # The unified hierarchy keeps the name of an ending process's cgroup; cgroup v1 does not.
        for folder in cgroup_folders(cell.cgroup):
            if (Path(folder) / "cgroup.freeze").exists():
                (Path(folder).parent / "cgroup.procs").write_text(str(sleeper.pid))
        os.kill(sleeper.pid, signal.SIGKILL)
        checks = 0
        while is_running(sleeper.pid, sleeper.start):
            assert watch.check() is None
            checks += 1
        assert checks
