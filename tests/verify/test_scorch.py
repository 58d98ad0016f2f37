"""The scorch on ordinary processes and files of this machine."""

import mmap
import os
from pathlib import Path
from typing import Any

from redline.verify.scorch import overwrite_weights
from tests.verify.local import SCORCH, running

KILL: dict[str, Any] = {"mode": "kill", "seconds": 5.0, "residues": 4}


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def clear(folder: Path) -> dict[str, Any]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answer, _ = SCORCH.main({"mode": "clear", "seconds": 5.0, "residues": 4}, [fd])
    finally:
        os.close(fd)
    return dict(answer)


def test_the_process_that_was_meant_is_killed() -> None:
    with running("") as it:
        answer, _ = SCORCH.main({**KILL, "processes": [[it.pid, start_of(it.pid)]]}, [])
        assert answer["killed"] == [it.pid]
        assert it.wait(5) == -9


def test_a_later_process_of_the_same_pid_is_spared() -> None:
    with running("") as it:
        answer, _ = SCORCH.main({**KILL, "processes": [[it.pid, start_of(it.pid) - 1]]}, [])
        assert answer == {"killed": [], "gone": [it.pid], "survivors": []}
        assert it.poll() is None


def test_a_folder_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
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


def test_a_folder_that_was_moved_is_still_the_one_that_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "subject"
    folder.mkdir()
    (folder / "x").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    folder.rename(tmp_path / "elsewhere" / "renamed")
    folder.mkdir()
    (folder / "mine").write_text("keep")
    SCORCH.main({"mode": "clear", "seconds": 5.0, "residues": 4}, [fd])
    os.close(fd)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (folder / "mine").read_text() == "keep"


def test_overwritten_weights_are_gone_for_whoever_mapped_them(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"secret" * 1000)
    with path.open("r+b") as file:
        held = os.dup(file.fileno())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
            assert overwrite_weights([held]) == 6000
        assert os.fstat(held).st_size == 0
        os.close(held)


def test_a_weight_file_blown_up_with_holes_costs_only_its_data(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"x" * 4096)
    with path.open("r+b") as file:
        os.truncate(file.fileno(), 2**42)
        assert overwrite_weights([file.fileno()]) <= 2**20
