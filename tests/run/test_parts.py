"""Parts of a plan: which trials they have, their folders, and their attempts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline._errors import ExitCode, UsageError
from redline.plan import Plan, completed
from redline.run import RunFolder, RunOptions, RunOutcome, run_plan, verify_folder
from redline.run.parts import attempts, part
from redline.run.parts.attempts import attempts_at, open_attempt
from redline.run.parts.part import Part, parse_part
from tests.run.folders import Silent, say, toy

TRIALS = 6


def the_plan(**changes: Any) -> Plan:
    fields = {"arms": ["toy"], "models": ["redline/refuser"], "trials": TRIALS, "runtime": "runc"}
    return Plan.model_validate(fields | changes)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})


def run_part(root: Path, which: str, plan: Plan | None = None) -> tuple[RunFolder, RunOutcome]:
    plan = plan or the_plan()
    folder, record = open_attempt(root, plan, parse_part(which))
    return folder, run_plan(plan, folder, Silent(), RunOptions(cells=1, part=record))


@given(trials=st.lists(st.text(), max_size=60, unique=True), count=st.integers(1, 70))
def test_every_trial_is_in_exactly_one_part(trials: list[str], count: int) -> None:
    shares = [Part(number=number, count=count).of(trials) for number in range(1, count + 1)]
    assert [name for share in shares for name in share] == trials
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.text())
def test_a_text_is_a_part_or_refused_in_one_line(text: str) -> None:
    try:
        found = parse_part(text)
    except UsageError as error:
        assert "\n" not in str(error).replace(text[:40], "")
    else:
        assert 1 <= found.number <= found.count


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1", "1/", "/3", "1/3/3", "-1/3", "１/3", "1/99999999", "9" * 5000 + "/1"]
)
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--part must be K/N"):
        parse_part(text)


@pytest.mark.slow
def test_a_part_runs_its_own_trials_only_and_verifies(tmp_path: Path) -> None:
    folder, outcome = run_part(tmp_path / "1", "1/3")
    checked = verify_folder(folder.root)
    assert (len(outcome.results.trials), checked.faults) == (2, ())
    (own,) = outcome.results.parts
    assert (own.number, own.count, own.attempt, own.planned, own.trials, own.head) == (1, 3, 1, 2, 2, None)
    assert "did not run" not in " ".join(outcome.results.deviations)
    assert not any("planned trials" in note for note in checked.notes)


def test_a_finished_part_runs_nothing_again(tmp_path: Path) -> None:
    first, _ = run_part(tmp_path / "1", "1/3")
    logs = sorted(path.name for path in first.logs.iterdir())
    results = first.results.read_bytes()
    again, _ = run_part(tmp_path / "1", "1/3")
    assert (again.root, sorted(path.name for path in again.logs.iterdir())) == (first.root, logs)
    assert again.results.read_bytes() == results


def test_a_folder_of_a_part_is_for_this_part_only(tmp_path: Path) -> None:
    run_part(tmp_path / "1", "1/3")
    with pytest.raises(UsageError, match="is part 1/3, not part 2/3"):
        run_part(tmp_path / "1", "2/3")
    with pytest.raises(UsageError, match="another plan"):
        run_part(tmp_path / "1", "1/3", the_plan(seed=5))
    with pytest.raises(UsageError, match="add --part 1/3"):
        run_plan(the_plan(), RunFolder(tmp_path / "1"), Silent(), RunOptions(cells=1))


@pytest.mark.slow
def test_a_part_does_not_go_into_the_folder_of_a_whole_run(tmp_path: Path) -> None:
    run_plan(the_plan(), RunFolder(tmp_path), Silent(), RunOptions(cells=1))
    with pytest.raises(UsageError, match="a run without parts"):
        run_part(tmp_path, "1/3")


def test_more_parts_than_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no part 7/7"):
        run_part(tmp_path / "7", "7/7")


def test_another_kernel_takes_over_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, before = run_part(tmp_path / "1", "1/3")
    first.results.unlink()  # the host failed before it wrote them
    monkeypatch.setattr(attempts, "own_boot_id", lambda: "another")
    monkeypatch.setattr(part, "own_boot_id", lambda: "another")
    second, after = run_part(tmp_path / "1", "1/3")
    assert second.root == tmp_path / "1.2"
    assert not verify_folder(second.root).faults
    assert after.results.trials == before.results.trials  # with the same evidence, so none ran again
    assert [record.attempt for _, record in attempts_at(tmp_path / "1")] == [1, 2]
    assert run_part(tmp_path / "1", "1/3")[0].root == second.root


def test_an_attempt_that_ended_without_a_record_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_part(tmp_path / "1", "1/3")
    (tmp_path / "1.2").mkdir()
    monkeypatch.setattr(attempts, "own_boot_id", lambda: "another")
    folder, record = open_attempt(tmp_path / "1", the_plan(), parse_part("1/3"))
    assert (folder.root, record.attempt) == (tmp_path / "1.3", 3)


def test_a_part_that_is_in_use_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, record = open_attempt(tmp_path / "1", the_plan(), parse_part("1/3"))
    with folder.claimed(completed(the_plan()), record):
        monkeypatch.setattr(attempts, "own_boot_id", lambda: "another")
        with pytest.raises(UsageError, match="another run is writing"):
            open_attempt(tmp_path / "1", the_plan(), parse_part("1/3"))
    assert not (tmp_path / "1.2").exists()


def test_an_altered_record_of_a_part_is_found(tmp_path: Path) -> None:
    folder, _ = run_part(tmp_path / "1", "1/3")
    record = json.loads(folder.part.read_text())
    folder.part.write_text(json.dumps(record | {"node": "elsewhere"}))
    faults = verify_folder(folder.root).faults
    assert any("part.json is altered" in fault for fault in faults)
    assert any("name different parts" in fault for fault in faults)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"part": {"number": 3, "count": 2}}', "\x00"])
def test_a_record_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "part.json").write_text(content)
    said = say("merge", tmp_path, "--out", tmp_path / "out")
    assert said.code == ExitCode.USAGE
    assert "is not the record of a part" in said.err
    assert said.err.count("\n") == 1


def test_workers_and_part_exclude_each_other(tmp_path: Path) -> None:
    said = say("run", "self_replication", "--model", "redline/refuser", "--part", "1/2", "--workers", "2")
    assert (said.code, said.err.count("\n")) == (ExitCode.USAGE, 1)
