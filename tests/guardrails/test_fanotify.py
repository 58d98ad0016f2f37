"""File accesses are attributed to a process, not to a pid, since a pid can be reused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from redline.cell import Cell, ProcessRef
from redline.cell.programs.prelude import start_time
from redline.guardrails import _fanotify
from redline.guardrails._fanotify import FileAccess, OpenMonitor

READ = "open(__import__('sys').argv[1], 'rb').read()"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may watch a file system with fanotify")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 4096)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def host_as_cell() -> Cell:
    """Return a stub of a cell whose processes are those of the host, to test the kernel's events."""
    init = SimpleNamespace(pid=os.getpid())
    return cast(Cell, SimpleNamespace(nodes={"default": SimpleNamespace(init=init)}))


def read_by_another(file: int) -> int:
    path = os.readlink(f"/proc/self/fd/{file}")
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", READ, path]) as process:
        assert process.wait(20) == 0
    return process.pid


async def found_by(monitor: OpenMonitor, pid: int) -> list[FileAccess]:
    found: list[FileAccess] = []
    with anyio.move_on_after(5):
        while {one.read for one in found if one.pid == pid} != {False, True}:
            found += monitor.take()
            await anyio.sleep(0.02)
    return [one for one in found if one.pid == pid]


@pytest.mark.anyio
async def test_another_process_with_the_pid_of_a_known_one_is_reported(file: int, monkeypatch: Any) -> None:
    # The pid of the opening process is not known in advance, so every pid counts as known, with another start time.
    class EveryPid(frozenset[Any]):
        def __contains__(self, identity: object) -> bool:
            assert isinstance(identity, tuple)
            return bool(identity[1] == 1)

    monitor = OpenMonitor(host_as_cell(), (file,), (ProcessRef(1, 1, "default"),))
    monkeypatch.setattr(monitor, "_known", EveryPid())
    try:
        assert await found_by(monitor, read_by_another(file))
    finally:
        monitor.close()


@pytest.mark.anyio
async def test_a_known_process_is_not_reported(file: int) -> None:
    own = os.getpid()
    start = start_time(own)
    assert start is not None
    monitor = OpenMonitor(host_as_cell(), (file,), (ProcessRef(own, start, "default"),))
    try:
        Path(os.readlink(f"/proc/self/fd/{file}")).read_bytes()
        other = read_by_another(file)
        found: list[FileAccess] = await found_by(monitor, other)
        assert {one.pid for one in found} == {other}
    finally:
        monitor.close()


@pytest.mark.anyio
async def test_any_number_of_processes_needs_bounded_memory(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fanotify, "MAX_PROCESSES", 2)
    monitor = OpenMonitor(host_as_cell(), (file,), ())
    try:
        for _ in range(5):
            assert await found_by(monitor, read_by_another(file))
        assert len(monitor._processes) <= 2 and len(monitor._latest) <= 2
    finally:
        monitor.close()
