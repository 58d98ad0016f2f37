"""Who opens a file is a process, not a pid: a pid is given to another process once its own has ended."""

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
from redline.guardrails._fanotify import Opened, Openings

READ = "open(__import__('sys').argv[1], 'rb').read()"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="fanotify is root's")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 4096)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def this_machine() -> Cell:
    """Stands for a cell whose processes are this machine's own: what is tested is the kernel's word on them."""
    init = SimpleNamespace(pid=os.getpid())
    return cast(Cell, SimpleNamespace(nodes={"default": SimpleNamespace(init=init)}))


def read_by_another(file: int) -> int:
    path = os.readlink(f"/proc/self/fd/{file}")
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", READ, path]) as process:
        assert process.wait(20) == 0
    return process.pid


async def found_by(openings: Openings, pid: int) -> list[Opened]:
    found: list[Opened] = []
    with anyio.move_on_after(5):
        while {one.read for one in found if one.pid == pid} != {False, True}:
            found += openings.taken()
            await anyio.sleep(0.02)
    return [one for one in found if one.pid == pid]


@pytest.mark.anyio
async def test_another_process_with_the_pid_of_one_that_may_is_still_seen(file: int, monkeypatch: Any) -> None:
    # The pid of the process that opens is not known before it runs: each pid counts as one that may, of another start.
    class EveryPid(frozenset[Any]):
        def __contains__(self, identity: object) -> bool:
            assert isinstance(identity, tuple)
            return bool(identity[1] == 1)

    openings = Openings(this_machine(), (file,), (ProcessRef(1, 1, "default"),))
    monkeypatch.setattr(openings, "_known", EveryPid())
    try:
        assert await found_by(openings, read_by_another(file))
    finally:
        openings.close()


@pytest.mark.anyio
async def test_the_process_that_may_is_not_reported(file: int) -> None:
    own = os.getpid()
    start = start_time(own)
    assert start is not None
    openings = Openings(this_machine(), (file,), (ProcessRef(own, start, "default"),))
    try:
        Path(os.readlink(f"/proc/self/fd/{file}")).read_bytes()
        other = read_by_another(file)
        found: list[Opened] = await found_by(openings, other)
        assert {one.pid for one in found} == {other}
    finally:
        openings.close()


@pytest.mark.anyio
async def test_processes_without_end_do_not_fill_the_memory(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fanotify, "MAX_KNOWN", 2)
    openings = Openings(this_machine(), (file,), ())
    try:
        for _ in range(5):
            assert await found_by(openings, read_by_another(file))
        assert len(openings._processes) <= 2 and len(openings._latest) <= 2
    finally:
        openings.close()
