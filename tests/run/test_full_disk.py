"""A disk that fills up during a run gives a one-line error, and every finished trial is kept."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from redline._errors import ExitCode
from redline.run import RunFolder, read_results
from redline.run.folder import MIN_FREE_BYTES
from tests.run.folders import Said, say
from tests.run.test_execute import TRIALS, Bench, bench

__all__ = ["bench"]

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system to fill"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MIN_FREE_BYTES + (8 << 20)}", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place: Path, spare: int) -> None:
    """Fill the disk except for a number of bytes."""
    with (place / "ballast").open("wb", buffering=0) as file:
        room = os.statvfs(place)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - spare)


def run(out: Path) -> Said:
    words = ["--model", "redline/refuser", "--trials", str(TRIALS), "--runtime", "runc", "--cells", "1"]
    return say("run", "toy", *words, "--out", out)


@pytest.mark.long
@pytest.mark.parametrize("spare", [0, 8 << 10, 40 << 10])
def test_a_full_disk_gives_one_line_and_the_same_command_completes_the_run(
    bench: Bench, small_disk: Path, spare: int
) -> None:
    bench.acts = {2: partial(fill, small_disk, spare)}
    out = small_disk / "out"
    said = run(out)
    assert said.code in (ExitCode.USAGE, ExitCode.INTERNAL)
    assert "No space left" in said.err or "disk full" in said.err
    assert "please report it" not in said.err

    (small_disk / "ballast").unlink()
    bench.acts = {}
    said = run(out)
    assert said.code == ExitCode.OK, said.err
    assert bench.drawn.count(0) == bench.drawn.count(1) == 1, "finished trials are kept"
    assert [trial.outcome for trial in read_results(RunFolder(out)).trials] == ["refused"] * TRIALS
