"""The scorch on ordinary processes and files of this host."""

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from tests.verify.local import SCORCH, running

BOUNDS: dict[str, Any] = {"seconds": 5.0, "residues": 4}
FAR = 1e18


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def clear(folder: Path) -> dict[str, Any]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answer = SCORCH.destroy(BOUNDS, fd, [])
    finally:
        os.close(fd)
    return dict(answer)


def test_the_given_process_is_killed() -> None:
    with running("") as it:
        answer = SCORCH.kill({**BOUNDS, "processes": [[it.pid, start_of(it.pid)]]})
        assert answer["killed"] == [it.pid]
        assert it.wait(5) == -9


WRITES_AGAIN = """
import os
if os.fork() == 0:
    while True:
        if os.stat({0!r}).st_size == 0:
            with open({0!r}, "w") as file:
                file.write("back")
"""


def test_processes_are_killed_before_the_files_are_destroyed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "weights").write_bytes(b"weights")
    weights = os.open(tmp_path / "weights", os.O_RDWR)
    folder = os.open(tmp_path / "folder", os.O_RDONLY | os.O_DIRECTORY)
    script = WRITES_AGAIN.format(str(tmp_path / "weights"))
    with running(script) as it:
        children = Path(f"/proc/{it.pid}/task/{it.pid}/children").read_text().split()
        (child,) = map(int, children)
        processes = [[pid, start_of(pid)] for pid in (it.pid, child)]
        answer, held = SCORCH.main({**BOUNDS, "processes": processes}, [folder, weights])
    assert held == []
    assert (answer["killed"], answer["sizes"], answer["left"]) == ([it.pid, child], [7], 0)
    assert (tmp_path / "weights").read_bytes() == b""
    assert not (tmp_path / "folder").exists()
    os.close(weights)
    os.close(folder)


def test_a_later_process_of_the_same_pid_is_spared() -> None:
    with running("") as it:
        answer = SCORCH.kill({**BOUNDS, "processes": [[it.pid, start_of(it.pid) - 1]]})
        assert answer == {"killed": [], "gone": [it.pid], "survivors": []}
        assert it.poll() is None


def test_a_folder_is_removed_with_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "subject"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "c").write_text("x")
    os.mkfifo(folder / "pipe")
    answer = clear(folder)
    assert answer["residues"] == []
    assert list(tmp_path.iterdir()) == []


def test_links_in_the_folder_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "x").write_text("keep")
    folder = tmp_path / "subject"
    folder.mkdir()
    (folder / "way").symlink_to(kept)
    (folder / "up").symlink_to("..")
    clear(folder)
    assert (kept / "x").read_text() == "keep"
    assert not folder.exists()


def test_a_moved_folder_is_removed_at_its_new_path(tmp_path: Path) -> None:
    folder = tmp_path / "subject"
    folder.mkdir()
    (folder / "x").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    folder.rename(tmp_path / "elsewhere" / "renamed")
    folder.mkdir()
    (folder / "own").write_text("keep")
    SCORCH.destroy(BOUNDS, fd, [])
    os.close(fd)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (folder / "own").read_text() == "keep"


def test_overwritten_weights_are_gone_from_mappings_too(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"secret" * 1000)
    with path.open("r+b") as file:
        held = os.dup(file.fileno())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
            assert SCORCH.overwrite([held], FAR) == 6000
        assert os.fstat(held).st_size == 0
        os.close(held)


def test_a_weight_file_extended_with_holes_costs_only_its_data(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"x" * 4096)
    with path.open("r+b") as file:
        os.truncate(file.fileno(), 2**42)
        assert SCORCH.overwrite([file.fileno()], FAR) <= 2**20


@pytest.fixture
def as_in_gvisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what gVisor's kernel lacks: pidfd_open, openat2, and reports of holes."""

    def lacking(*_: object) -> int:
        raise OSError(errno.ENOSYS, "not there")

    real = os.lseek

    def lseek(fd: int, position: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "not there")
        return real(fd, position, how)

    monkeypatch.setattr(os, "pidfd_open", lacking)
    monkeypatch.setattr(os, "lseek", lseek)
    monkeypatch.setattr(SCORCH, "SYS_OPENAT2", 9999)


@pytest.mark.usefixtures("as_in_gvisor")
def test_without_pidfds_only_the_given_process_is_killed() -> None:
    with running("") as spared, running("") as meant:
        meant_and_later = [[meant.pid, start_of(meant.pid)], [spared.pid, start_of(spared.pid) - 1]]
        answer = SCORCH.kill({**BOUNDS, "processes": meant_and_later})
        assert answer == {"killed": [meant.pid], "gone": [spared.pid], "survivors": []}
        assert meant.wait(5) == -9
        assert spared.poll() is None


@pytest.mark.usefixtures("as_in_gvisor")
def test_without_reported_holes_only_nonzero_pages_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with path.open("w+b") as file:
        file.write(b"x" * 5000)
        file.truncate(2**26)
        assert SCORCH.overwrite([file.fileno()], FAR) == 8192
        assert os.fstat(file.fileno()).st_blocks == 0


@pytest.mark.usefixtures("as_in_gvisor")
def test_without_openat2_links_are_still_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "x").write_text("keep")
    folder = tmp_path / "subject"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "way").symlink_to(kept)
    assert clear(folder)["residues"] == []
    assert (kept / "x").read_text() == "keep"
    assert not folder.exists()
