"""An unprivileged user of the host gains nothing from the files and sockets of a run."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from redline import __version__
from redline._errors import UsageError
from redline.cell.state import new_owner, state_folder
from redline.results import Calibration
from redline.run.calibration import calibration_file, kept_calibration, prepare_to_keep
from redline.stats import Count, rate
from tests.run.folders import a_run
from tests.tether.test_in_a_cell import trial

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user"),
]

CALIBRATION = Calibration(
    redline_version=__version__,
    date=datetime(2026, 1, 1, tzinfo=UTC),
    runtime="runc",
    hold=0,
    controls=1,
    trials=1,
    right=1,
    confusion=(),
    sensitivity=rate(1, 1),
    specificity=rate(1, 1),
    milestone_agreement=Count(k=1, n=1),
    milestones={},
    invalid=Count(k=0, n=1),
    misjudged=(),
    results_head="0" * 64,
)
OTHER, THIRD = 54321, 54322
"""User IDs without a name."""

AS_ANOTHER = """
import json, os, sys
import redline.cell.state
from redline._errors import RedlineError
given = json.load(sys.stdin)
os.setgroups([])
os.setresgid(*[given["uid"]] * 3)
os.setresuid(*[given["uid"]] * 3)
os.chdir("/")
"""

TOUCH_ALL = """
import contextlib, socket, stat
found = {"listed": [], "written": [], "answered": []}
for path in given["paths"]:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        continue
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(mode):
            with contextlib.suppress(OSError):
                os.listdir(path)
                found["listed"].append(path)
            os.mkdir(path + "/intruder")
            found["written"].append(path)
        elif stat.S_ISSOCK(mode):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(5)
                peer.connect(path)
                body = json.dumps({"type": "call", "messages": [{"role": "user", "content": "hi"}]}).encode()
                peer.sendall(len(body).to_bytes(4, "big") + body)
                found["answered"].append(peer.recv(65536).decode(errors="replace"))
        elif stat.S_ISREG(mode):
            os.close(os.open(path, os.O_WRONLY))
            found["written"].append(path)
print(json.dumps(found))
"""

STATE = """
try:
    print(json.dumps(str(redline.cell.state.state_folder())))
except RedlineError as error:
    print(json.dumps(["refused", str(error)]))
"""


def as_another(program: str, uid: int = OTHER, env: dict[str, str] | None = None, **given: Any) -> Any:
    """Run a program as another user; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER + program],
        input=json.dumps({"uid": uid, **given}),
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Return a folder with the mode of `/tmp`; other users cannot enter those of pytest."""
    with tempfile.TemporaryDirectory(prefix="redline-test-") as name:
        place = Path(name)
        place.chmod(0o1777)
        yield place


@pytest.mark.long
@pytest.mark.cell
async def test_another_user_changes_nothing_of_a_cell_and_gets_no_answer_from_the_model() -> None:
    async with trial("target") as it:
        asked = len(it.model.asked)
        owner = it.cell.folder.parent.parent
        paths = [str(state_folder()), str(owner), *map(str, owner.rglob("*"))]
        # Runtimes copy the modes of the mount points of a cell's own file systems. Nothing written there reaches a
        # cell, and their names cannot be listed.
        hollow = {str(owner / "root" / name) for name in ("tmp", "var/tmp")}
        found = as_another(TOUCH_ALL, paths=[path for path in paths if path not in hollow])
        assert found["written"] == []
        outside_of_the_root = [path for path in found["listed"] if not path.startswith(str(owner / "root"))]
        assert outside_of_the_root == []
        assert len(found["answered"]) <= 2
        assert all("fine" not in reply for reply in found["answered"])
        assert len(it.model.asked) == asked
        assert "fine" in str(await it.ask(it.subject.layout.engine_port)), "the cell's own engine is served as before"
        assert all(one.pid == it.subject.engine.pid for one in it.broker.record().engines)


def test_the_folders_of_cells_cannot_be_listed(tmp_path: Path) -> None:
    for folder in (state_folder(), new_owner(tmp_path), next(tmp_path.iterdir()) / "cells"):
        mode = stat.S_IMODE(folder.stat().st_mode)
        assert mode & 0o066 == 0, folder


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["folder", "link", "file"])
def test_a_state_folder_that_another_user_planted_is_refused(open_place: Path, planted: str) -> None:
    place = open_place / f"pods-{OTHER}"
    if planted == "folder":
        place.mkdir(mode=0o777)
    elif planted == "file":
        place.touch()
    else:
        (open_place / "elsewhere").mkdir()
        place.symlink_to(open_place / "elsewhere")
    os.lchown(place, THIRD, THIRD)
    said = as_another(STATE, env={"XDG_RUNTIME_DIR": str(open_place)})
    assert said[0] == "refused"


def test_a_state_folder_that_others_can_write_to_is_closed(open_place: Path) -> None:
    place = open_place / f"pods-{OTHER}"
    place.mkdir()
    place.chmod(0o777)
    os.chown(place, OTHER, OTHER)
    assert as_another(STATE, env={"XDG_RUNTIME_DIR": str(open_place)}) == str(place)
    assert stat.S_IMODE(place.stat().st_mode) & 0o066 == 0


@pytest.fixture
def state_home(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(open_place))
    path = prepare_to_keep("runc")
    path.write_text(CALIBRATION.model_dump_json())
    assert kept_calibration("runc") is not None
    return path


@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_calibration_of_another_user_is_not_trusted(state_home: Path, of: int) -> None:
    os.chown([state_home, state_home.parent, state_home.parent.parent][of], OTHER, OTHER)
    assert kept_calibration("runc") is None


@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_calibration_that_others_can_write_to_is_not_trusted(state_home: Path, of: int) -> None:
    path = [state_home, state_home.parent, state_home.parent.parent][of]
    path.chmod(path.stat().st_mode | 0o002)
    assert kept_calibration("runc") is None


@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_calibration_behind_a_link_is_not_trusted(state_home: Path, of: int) -> None:
    path = [state_home, state_home.parent, state_home.parent.parent][of]
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    assert kept_calibration("runc") is None


def test_a_calibration_that_is_not_a_file_is_ignored(state_home: Path) -> None:
    state_home.unlink()
    os.mkfifo(state_home)
    assert kept_calibration("runc") is None


def test_no_calibration_is_stored_in_another_users_folder(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(open_place))
    (open_place / "redline").mkdir()
    os.chown(open_place / "redline", OTHER, OTHER)
    with pytest.raises(UsageError, match="belongs to another user"):
        prepare_to_keep("runc")
    assert calibration_file("runc").parent.parent == open_place / "redline"


@pytest.mark.cell
def test_another_user_writes_nothing_in_the_folder_of_a_run(open_place: Path) -> None:
    out = open_place / "out"
    a_run(out)
    paths = [str(out), *map(str, out.rglob("*"))]
    found = as_another(TOUCH_ALL, paths=paths)
    assert found["written"] == []
    assert str(out / "evidence") in found["listed"], "the user saw what there is"
