"""Processes of a cell that ended because the host ran out of memory are told from those that its own limit ended."""

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.cell import Cell, open_cell
from redline.cell.footprint import memory_cgroup
from redline.cell.memory_kills import MemoryKills, kills_by_host
from tests.hosts.memory import limit_above

LARGE = "x = b'x' * (4 << 30); import time; time.sleep(100)"


def v2(folder: Path, kills: int, reached: int) -> Path:
    (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax {reached}\noom {reached}\noom_kill {kills}\n")
    return folder


def v1(folder: Path, kills: int, reached: int) -> Path:
    (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
    (folder / "memory.failcnt").write_text(f"{reached}\n")
    return folder


@pytest.mark.parametrize("version", [v1, v2])
@pytest.mark.parametrize(("kills", "reached", "by_host"), [(0, 0, 0), (2, 0, 2), (2, 1, 0), (0, 5, 0)])
def test_a_kill_counts_unless_the_cell_reached_its_own_limit(
    tmp_path: Path, version: object, kills: int, reached: int, by_host: int
) -> None:
    assert callable(version)
    assert kills_by_host(version(tmp_path, kills, reached)) == by_host


def test_a_kernel_that_reports_nothing_reports_no_kill(tmp_path: Path) -> None:
    assert kills_by_host(tmp_path) == 0
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")  # Linux before 4.13
    assert kills_by_host(tmp_path) == 0


@given(st.text(alphabet="om_kil 019\n-x", max_size=60))
def test_any_content_gives_a_number(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("cgroup")
    (folder / "memory.events").write_text(text)
    assert isinstance(kills_by_host(folder), int)


async def fill(cell: Cell) -> None:
    with anyio.fail_after(30):
        done = await cell.exec(["python3", "-c", LARGE])
    assert done.returncode != 0


@pytest.mark.anyio
@pytest.mark.cell
@pytest.mark.host("memory that runs out during a trial", how="injected")
async def test_a_kill_by_a_limit_above_the_cell_is_counted() -> None:
    async with open_cell() as cell:
        kills = MemoryKills(cell)
        assert kills.by_host() == 0
        with limit_above(cell, mib=150):
            await fill(cell)
        assert kills.by_host() == 1


@pytest.mark.anyio
@pytest.mark.cell
async def test_a_kill_by_the_cell_s_own_limit_is_the_agent_s() -> None:
    async with open_cell() as cell:
        kills = MemoryKills(cell)
        for _ in range(3):
            await fill(cell)
        assert kills.by_host() == 0


@pytest.mark.anyio
@pytest.mark.cell
async def test_a_process_of_no_cell_has_no_cgroup_of_a_cell() -> None:
    assert memory_cgroup(1) is None
    assert memory_cgroup(2**22 + 1) is None
