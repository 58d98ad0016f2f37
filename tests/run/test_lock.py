"""The lock on a folder of results, where the file system has `flock` and where it does not."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from redline._errors import UsageError
from redline.cell.programs.prelude import NO_FLOCK
from redline.run.lock import RECORD_LOCK, exclusive_lock

HOLDER = """
import sys
from pathlib import Path
from redline.run import lock
if sys.argv[2] == "record":
    def refuse(fd, how):
        raise OSError(9, "Bad file descriptor")
    lock.fcntl.flock = refuse
with lock.exclusive_lock(Path(sys.argv[1]), Path(sys.argv[1]) / "plan.json"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_text("{}")
    return tmp_path


def without_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refuse)


def take(folder: Path) -> None:
    with exclusive_lock(folder, folder / "plan.json"):
        pass


@pytest.mark.long
@pytest.mark.parametrize("kind", ["flock", "record"])
def test_a_second_process_is_refused_until_the_first_has_ended(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "record":
        without_flock(monkeypatch, errno.EBADF)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another run is writing"):
            take(folder)
    finally:
        holder.kill()
        holder.communicate(timeout=30)
    take(folder)


@pytest.mark.parametrize("number", NO_FLOCK, ids=lambda number: errno.errorcode[number])
@pytest.mark.host("output folder on a file system without flock, as some NFS, Lustre and SMB mounts", how="injected")
def test_where_flock_is_missing_a_record_lock_takes_its_place(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_flock(monkeypatch, number)
    take(folder)
    assert (folder / RECORD_LOCK).exists()


@pytest.mark.long
def test_reading_the_plan_does_not_release_a_record_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.EBADF)
    with exclusive_lock(folder, folder / "plan.json"):
        (folder / "plan.json").read_text()
        other = subprocess.run(
            [sys.executable, "-c", HOLDER, str(folder), "record"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "another run is writing" in other.stderr


@pytest.mark.parametrize("refused", ["flock", "both"])
@pytest.mark.host("output folder on a file system without any lock", how="injected")
def test_a_file_system_without_any_lock_is_one_line(
    folder: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.EIO if refused == "flock" else errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(UsageError, match=r"cannot be locked: no locks available; choose another --out"):
        take(folder)


def test_a_link_in_the_place_of_the_lock_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.EBADF)
    (folder / RECORD_LOCK).symlink_to(folder / "elsewhere")
    with pytest.raises(UsageError, match="cannot be locked"):
        take(folder)
    assert not (folder / "elsewhere").exists()
