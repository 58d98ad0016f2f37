import fcntl
import os
import time
from pathlib import Path

from redline.cell.state import START_SECONDS, new_owner, sweep_stale


def aged(folder: Path) -> Path:
    long_ago = time.time() - 2 * START_SECONDS
    os.utime(folder, (long_ago, long_ago))
    return folder


def test_the_folder_of_a_harness_that_is_still_starting_is_left_alone(tmp_path: Path) -> None:
    starting = new_owner(tmp_path)
    assert sweep_stale(tmp_path) == 0
    assert (starting / "cells").is_dir()


def test_the_folder_of_a_harness_that_never_came_up_is_swept(tmp_path: Path) -> None:
    dead = aged(new_owner(tmp_path))
    assert sweep_stale(tmp_path) == 1
    assert not dead.exists()


def test_the_folder_of_a_harness_whose_warden_is_gone_is_swept_at_once(tmp_path: Path) -> None:
    dead = new_owner(tmp_path)
    (dead / "lock").touch()
    assert sweep_stale(tmp_path) == 1
    assert not dead.exists()


def test_the_folder_of_a_harness_whose_warden_lives_is_left_alone(tmp_path: Path) -> None:
    alive = aged(new_owner(tmp_path))
    with (alive / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep_stale(tmp_path) == 0
    assert (alive / "cells").is_dir()


def test_a_folder_with_cells_and_no_program_that_can_end_them_stays(tmp_path: Path) -> None:
    unknown = aged(new_owner(tmp_path))
    (unknown / "cells" / "c1").mkdir()
    sweep_stale(tmp_path)
    assert (unknown / "cells" / "c1").is_dir()
