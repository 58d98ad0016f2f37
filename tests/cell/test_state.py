import errno
import fcntl
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from redline._errors import UsageError
from redline.cell import folders, state
from redline.cell.open import choose_runtime
from redline.cell.programs import warden
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


def test_a_harness_whose_lock_file_appears_during_the_look_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = new_owner(tmp_path)

    def old_and_locked(folder: Path) -> bool:
        """The warden creates its lock file after the sweep found none."""
        (folder / "lock").touch()
        return True

    monkeypatch.setattr(state, "_is_young", old_and_locked)
    assert sweep_stale(tmp_path) == 0
    assert (starting / "cells").is_dir()


def test_a_lock_file_is_locked_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = []

    def lock(fd: int, how: int) -> None:
        assert how == fcntl.LOCK_EX
        locked.append((tmp_path / "lock").exists())

    monkeypatch.setattr(warden, "lock_file", lock)
    warden.lock_folder(str(tmp_path))
    assert locked == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


SWEEPER = """
import sys
from pathlib import Path
from redline.cell.state import in_state_folder, sweep_stale
print("sweeping", flush=True)
while True:
    in_state_folder(sweep_stale)
"""


@pytest.mark.cell
def test_no_harness_that_starts_is_swept_by_another() -> None:
    async def start_and_end() -> None:
        harness = choose_runtime("runc").start_warden()
        try:
            await anyio.sleep(0.4)  # a sweep takes a tenth of a second
            assert (harness.harness.owner / "cells").is_dir()
        finally:
            await harness.aclose()

    with subprocess.Popen([sys.executable, "-c", SWEEPER], stdout=subprocess.PIPE) as sweeper:
        try:
            assert sweeper.stdout is not None and sweeper.stdout.readline() == b"sweeping\n"
            for _ in range(8):
                anyio.run(start_and_end)
        finally:
            sweeper.kill()


def test_the_folder_of_cells_is_made_again_if_another_harness_removes_it_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "state"
    monkeypatch.setattr(state, "state_location", lambda: place)
    tries = []

    def make(folder: Path) -> Path:
        tries.append(folder)
        if len(tries) < 3:
            folder.rmdir()
        return new_owner(folder)

    assert state.in_state_folder(make).parent == place
    assert tries == [place] * 3


@pytest.mark.parametrize("error", [FileExistsError, FileNotFoundError])
def test_the_folder_of_cells_is_made_again_if_another_harness_removes_it_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    place = tmp_path / "state"
    place.mkdir()
    monkeypatch.setattr(state, "state_location", lambda: place)
    failures = iter([error(errno.EEXIST, "seen to exist, and gone")])

    def make_folder(folder: Path, *, exist_ok: bool) -> None:
        for failure in failures:
            place.rmdir()
            raise failure
        folders.make_folder(folder, exist_ok=exist_ok)

    monkeypatch.setattr(state, "make_folder", make_folder)
    assert state.state_folder() == place
    assert place.is_dir()


def test_a_file_in_the_place_of_the_folder_of_cells_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "state"
    place.touch()
    monkeypatch.setattr(state, "state_location", lambda: place)
    with pytest.raises(
        UsageError, match=r"state cannot be made \(File exists\): set XDG_RUNTIME_DIR to a folder of yours"
    ):
        state.state_folder()


STARTS_AND_ENDS = """
import contextlib, shutil, sys, time
from pathlib import Path
from redline.cell import state
from redline.cell.warden import claim_owner

state.state_location = lambda: Path(sys.argv[1])
deadline = time.monotonic() + 3
while time.monotonic() < deadline:
    owner = claim_owner()
    with state.workbench_folder():
        pass
    shutil.rmtree(owner)
    with contextlib.suppress(OSError):
        owner.parent.rmdir()
"""


def test_harnesses_that_start_and_end_at_the_same_moment_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS_AND_ENDS, str(tmp_path / "state")]
    harnesses = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [harness.communicate(timeout=60)[1] for harness in harnesses]
    assert ends == [""] * 3, ends


def test_a_folder_with_cells_and_no_program_that_can_end_them_stays(tmp_path: Path) -> None:
    unknown = aged(new_owner(tmp_path))
    (unknown / "cells" / "c1").mkdir()
    sweep_stale(tmp_path)
    assert (unknown / "cells" / "c1").is_dir()


def workbench_of_a_process(parent: Path) -> tuple[Path, "subprocess.Popen[bytes]"]:
    """Start a process that holds a workbench, and return its folder, which looks old."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom redline.cell import state\n"
        "state.state_location = lambda: Path(sys.argv[1])\n"
        "with state.workbench_folder() as folder:\n  print(folder, flush=True)\n  time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(parent)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    folder = Path(os.fsdecode(process.stdout.readline().strip()))
    assert folder.stat().st_mode & 0o777 == 0o711
    return aged(folder), process


def test_the_folder_of_a_self_test_is_swept_after_it_was_killed(tmp_path: Path) -> None:
    folder, process = workbench_of_a_process(tmp_path)
    with process:
        try:
            sweep_stale(tmp_path)
            assert folder.is_dir()
        finally:
            process.kill()
    assert folder.is_dir()
    sweep_stale(tmp_path)
    assert not folder.exists()


def test_the_folder_of_a_self_test_that_is_still_starting_is_left_alone(tmp_path: Path) -> None:
    starting = tmp_path / "bench-starting"
    starting.mkdir()
    sweep_stale(tmp_path)
    assert starting.is_dir()


GETSUBIDS = """#!/bin/sh
case "$*" in
  "-g someone") echo "0: someone 700000 65536" ;;
  "someone") echo "0: someone 600000 65536"; echo "1: someone 800000 10" ;;
  *) echo "Error fetching ranges" >&2; exit 1 ;;
esac
"""


def directory(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """A user of a directory service, who stands in no file."""
    (folder / "getsubids").write_text(text)
    (folder / "getsubids").chmod(0o755)
    for name in ("SUBUID", "SUBGID"):
        monkeypatch.setattr(state, name, folder / name.lower())
    monkeypatch.setattr(state, "SEARCH_PATH", str(folder))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="someone", pw_uid=uid))
    monkeypatch.setattr(pwd, "getpwall", list)


@pytest.mark.host("users and subordinate ids from a directory service", how="injected")
def test_subordinate_ids_come_from_a_directory_service_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory(monkeypatch, tmp_path, GETSUBIDS)
    assert state.own_subordinate_ids(state.SUBUID) == range(600000, 665536)
    assert state.own_subordinate_ids(state.SUBGID) == range(700000, 765536)


@pytest.mark.host("a user that the directory service does not enumerate", how="injected")
def test_a_user_who_is_not_enumerated_is_found_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory(monkeypatch, tmp_path, GETSUBIDS)
    (tmp_path / "subuid").write_text("other:1:2\nsomeone:100000:65536\n")
    assert state.own_subordinate_ids(state.SUBUID) == range(100000, 165536)


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho nonsense\n", "#!/bin/sh\necho 0: someone x -1\n", "no program"]
)
@pytest.mark.host("a directory service that does not answer", how="injected")
def test_a_directory_service_without_an_answer_is_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory(monkeypatch, tmp_path, text)
    with pytest.raises(UsageError, match="someone:100000:65536"):
        state.own_subordinate_ids(state.SUBUID)


def test_a_user_id_without_an_entry_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory(monkeypatch, tmp_path, "no program")

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UsageError, match=f"{os.geteuid()}:100000"):
        state.own_subordinate_ids(state.SUBUID)


def test_sessions_of_one_user_with_different_folders_draw_different_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cron job has no XDG_RUNTIME_DIR, so its cells are in another folder than those of the user's sessions."""
    folders = [tmp_path / name for name in ("session", "cron", "stranger's")]
    for folder in folders:
        folder.mkdir()
    maps = {base: state.IdMaps((state.IdSlice(0, base, 2),), ()) for base in (1000, 1002)}
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(state, "_subordinate_candidates", lambda: iter(maps.items()))
    monkeypatch.setattr(state, "_other_state_folders", lambda own: [one for one in folders if one != own])
    claimed = []
    for folder in folders[:2]:
        cell = folder / "cell"
        cell.mkdir()
        claimed.append(state.claim_ids(folder, cell))
    assert claimed == list(maps.values())


def test_only_folders_of_the_same_user_reserve_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    assert state._belongs_to(own, os.geteuid())
    assert not state._belongs_to(own, os.geteuid() + 1)
    assert not state._belongs_to(tmp_path / "absent", os.geteuid())
