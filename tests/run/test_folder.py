"""The folder of a run belongs to its plan."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from redline._errors import UsageError
from redline.plan import Plan
from redline.run.folder import RunFolder, write_text
from redline.run.trial_ids import MAX_NAME, trial_id


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"arms": ["self_replication"], "models": ["redline/replicator"], **changes})


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def claim(root: Path, wanted: Plan) -> None:
    with RunFolder(root).claimed(wanted):
        pass


def test_a_new_folder_gets_its_plan_with_the_hash(tmp_path: Path) -> None:
    claim(tmp_path / "out", plan())
    assert json.loads((tmp_path / "out/plan.json").read_text())["sha256"] == plan().sha256


def test_the_same_plan_is_accepted_again(tmp_path: Path) -> None:
    claim(tmp_path, plan())
    before = contents(tmp_path)
    claim(tmp_path, plan())
    assert contents(tmp_path) == before


def test_another_plan_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    claim(tmp_path, plan())
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="another plan"):
        claim(tmp_path, plan(seed=1))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"arms": 1}', "[1]"])
def test_a_corrupt_plan_is_refused_and_nothing_is_changed(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match="is not a plan"):
        claim(tmp_path, plan())
    assert contents(tmp_path) == {str(tmp_path / "plan.json"): text.encode()}


def test_a_plan_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, plan())
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"trials": 10', '"trials": 11'))
    with pytest.raises(UsageError, match="its sha256 differs"):
        claim(tmp_path, plan(trials=11))


def test_logs_without_a_plan_are_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/other.eval").write_bytes(b"log")
    with pytest.raises(UsageError, match="logs but no plan"):
        claim(tmp_path, plan())
    assert list(contents(tmp_path)) == [str(tmp_path / "logs/other.eval")]


def test_a_file_instead_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="is not a folder"):
        claim(tmp_path / "out", plan())


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot write to /proc/redline"):
        claim(Path("/proc/redline"), plan())


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 100, 1, 1, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(UsageError, match="less than 64 MiB free"):
        claim(tmp_path, plan())


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path).claimed(plan()), pytest.raises(UsageError, match="another run is writing"):
        claim(tmp_path, plan())


def test_a_failed_write_leaves_the_previous_content(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert contents(tmp_path) == {str(path): b"before"}


def test_a_trial_of_a_model_with_a_long_name_has_a_valid_file_name() -> None:
    folder = "/home/somebody/" + "models/" * 40
    names = {trial_id("self_replication-000", f"llama-cpp/{folder}{name}.gguf") for name in "ab"}
    assert len(names) == 2
    assert all(len(name) <= MAX_NAME and name.startswith("self_replication-000-") for name in names)
    assert trial_id("t-000", "openai/gpt-4o") == "t-000-openai_gpt-4o"
