"""Installation of the subject in real cells."""

import os

import pytest

from redline.cell import CellConfig, CellError, open_cell
from redline.cell.open import DEFAULT_VARIABLE
from redline.subject import ROOT, Layout, Weights, bundle_files, install
from redline.tether.http import get

pytestmark = [pytest.mark.anyio, pytest.mark.cell]
LAYOUT = Layout.from_seed(2)
WEIGHTS = Weights.from_seed(2, 8 * 2**20, LAYOUT.shards)
CONFIG = CellConfig(home_mib=32)


async def test_generation_zero_runs_on_the_weights_of_its_seed() -> None:
    async with open_cell(CONFIG) as cell:
        subject = await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=True))
        cell.attach(subject)
        assert (await get(cell, LAYOUT.engine_port, "/health")).status == 200
        assert (await get(cell, LAYOUT.agent_port, "/health")).status == 200
        for file in WEIGHTS.files():
            data = await cell.read_file(f"{ROOT}/weights/{file.name}", limit=file.size)
            (piece,) = file.slices
            assert data == file.header + WEIGHTS.read(piece.canonical, piece.length)
        for path, content in subject.code.items():
            assert await cell.read_file(f"{ROOT}/{path}", limit=2**20) == content


async def test_everything_belongs_to_the_agents_user() -> None:
    async with open_cell(CONFIG) as cell:
        subject = await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=False))
        cell.attach(subject)
        listed = await cell.exec(["find", ROOT, "-printf", "%U:%G %i %P\n"])
        owners = {line.split()[0] for line in listed.stdout.decode().splitlines()}
        assert owners == {"1000:1000"}
        names = dict(line.split()[:0:-1] for line in listed.stdout.decode().splitlines() if len(line.split()) == 3)
        assert {int(names[f"weights/{file.name}"]) for file in WEIGHTS.files()} == {i for _, i in subject.weight_inodes}
        assert {path: int(names[path]) for path in subject.code} == {p: i for p, (_, i) in subject.code_inodes.items()}
        assert (await cell.exec(["sh", "-c", f"cp -r {ROOT} /tmp/other && rm -r {ROOT}"])).returncode == 0


async def test_the_held_descriptors_reach_the_originals_after_they_were_renamed() -> None:
    async with open_cell(CONFIG) as cell:
        subject = await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=True))
        cell.attach(subject)
        moved = (
            "mkdir elsewhere; cp subject/weights/*00001* elsewhere/copy; mv subject/weights/*00001* elsewhere/original"
        )
        assert (await cell.exec(["sh", "-c", moved])).returncode == 0
        for fd in subject.weight_handles:
            os.ftruncate(fd, 0)
        sizes = await cell.exec(["sh", "-c", "stat -c %s elsewhere/original elsewhere/copy"])
        assert sizes.stdout.decode().split() == ["0", str(WEIGHTS.files()[0].size)]
        await subject.aclose()
        await subject.aclose()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(subject.weight_handles[0])


async def test_weights_that_do_not_fit_are_an_error_and_leave_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with open_cell(CellConfig(home_mib=4)) as cell:
        inside = len(os.listdir("/proc/self/fd"))
        with pytest.raises(CellError, match="cannot write the weights"):
            await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=True))
        assert len(os.listdir("/proc/self/fd")) == inside
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_node_takes_one_subject_only() -> None:
    async with open_cell(CONFIG) as cell:
        cell.attach(await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=True)))
        with pytest.raises(CellError, match="File exists"):
            await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=True))


@pytest.mark.long
@pytest.mark.parametrize(
    "runtime", [pytest.param("runsc", marks=pytest.mark.runsc), pytest.param("docker", marks=pytest.mark.docker)]
)
async def test_handles_inside_reach_the_originals_after_they_were_renamed(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEFAULT_VARIABLE, runtime)
    async with open_cell(CONFIG) as cell:
        subject = await install(cell, WEIGHTS, LAYOUT, bundle_files(LAYOUT, WEIGHTS, tether_told=True))
        first = WEIGHTS.files()[0]
        (piece,) = first.slices
        moved = "mkdir elsewhere; cp subject/weights/*00001* elsewhere/copy; mv subject/weights/*00001* elsewhere/it"
        assert (await cell.exec(["sh", "-c", f"{moved}"])).returncode == 0
        held = await cell.read_file("elsewhere/it", limit=first.size)
        assert held == first.header + WEIGHTS.read(piece.canonical, piece.length)
        await cell.write_held(subject.weight_handles[0], 0, bytes(100))
        assert (await cell.read_file("elsewhere/it", limit=first.size))[:100] == bytes(100)
        assert (await cell.read_file("elsewhere/copy", limit=first.size))[:100] == held[:100]
        await subject.aclose()
        with pytest.raises(CellError):
            await cell.write_held(subject.weight_handles[0], 0, b"x")
