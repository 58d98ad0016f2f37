"""Merged parts: the results of an undivided run, from parts that are complete, unaltered and present once."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redline._errors import ExitCode
from redline.plan import Plan, completed
from redline.run import RunFolder, RunOptions, run_plan, verify_folder
from redline.run.aborter import AlarmNote, note_alarm
from redline.run.parts import attempts, part
from redline.run.parts.attempts import open_attempt
from redline.run.parts.part import parse_part
from tests.run.folders import Said, Silent, say, toy

TRIALS, COUNT = 8, 3

VARYING = {"evidence_sha256", "log", "seconds", "chain", "parts", "timings"}
"""Fields of the results that name times and places."""


def the_plan(**changes: Any) -> Plan:
    fields = {"arms": ["toy"], "models": ["redline/refuser"], "trials": TRIALS, "runtime": "runc"}
    return Plan.model_validate(fields | changes)


def run_part(root: Path, number: int, plan: Plan | None = None, count: int = COUNT) -> Path:
    plan = plan or the_plan()
    folder, record = open_attempt(root / "parts" / str(number), plan, parse_part(f"{number}/{count}"))
    run_plan(plan, folder, Silent(), RunOptions(cells=1, part=record))
    return folder.root


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redline.scenarios.SCENARIOS", {"toy": toy})
        for number in range(1, COUNT + 1):
            run_part(root, number)
    return root


@pytest.fixture
def run(_made: Path, tmp_path: Path) -> Path:
    """Return a folder with three finished parts."""
    shutil.copytree(_made, tmp_path / "run")
    return tmp_path / "run"


def steady(document: Any) -> Any:
    """Return a document without times and places."""
    if isinstance(document, dict):
        return {key: steady(value) for key, value in document.items() if key not in VARYING}
    return [steady(value) for value in document] if isinstance(document, list) else document


def refused(said: Said, code: ExitCode, why: str) -> None:
    assert (said.code, said.err.count("\n"), said.out) == (code, 1, ""), said.err
    assert re.search(why, said.err), said.err


def test_merged_results_are_those_of_an_undivided_run(run: Path, tmp_path: Path) -> None:
    assert say("merge", run).code == ExitCode.OK
    whole = RunFolder(tmp_path / "whole")
    run_plan(the_plan(), whole, Silent(), RunOptions(cells=1))
    merged = json.loads((run / "results.json").read_text())
    alone = json.loads(whole.results.read_text())
    assert json.dumps(steady(merged)) == json.dumps(steady(alone))
    assert [(one["number"], one["trials"]) for one in merged["parts"]] == [(1, 2), (2, 3), (3, 3)]
    heads = [json.loads((run / f"parts/{one}/results.json").read_text())["chain"]["head"] for one in (1, 2, 3)]
    assert [one["head"] for one in merged["parts"]] == heads
    checked = verify_folder(run)
    assert (checked.trials, checked.right, checked.faults, checked.notes) == (TRIALS, TRIALS, (), ())
    assert (run / "report.html").exists()


def test_evidence_is_that_of_the_parts(run: Path) -> None:
    say("merge", run)
    for path in (run / "evidence").rglob("*.json"):
        (own,) = run.glob(f"parts/*/{path.relative_to(run)}")
        assert own.read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("every_chart_is_drawn")
def test_a_merge_can_be_repeated_and_a_stale_file_of_the_last_one_is_removed(run: Path) -> None:
    say("merge", run)
    first = (run / "results.json").read_bytes()
    (run / "evidence" / "foreign.json").write_text("{}")
    (run / "alarms.jsonl").write_text("")
    assert say("merge", run).code == ExitCode.OK
    assert (run / "results.json").read_bytes() == first
    assert not verify_folder(run).faults


def test_parts_from_several_places_are_merged(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "node" / "2"
    elsewhere.parent.mkdir()
    (run / "parts" / "2").rename(elsewhere)
    out = tmp_path / "out"
    assert say("merge", run / "parts", elsewhere, "--out", out).code == ExitCode.OK
    assert not verify_folder(out).faults


def test_a_missing_part_is_named_and_the_others_can_be_merged(run: Path) -> None:
    shutil.rmtree(run / "parts" / "2")
    refused(say("merge", run), ExitCode.USAGE, r"parts are missing: 2/3")
    said = say("merge", run, "--partial")
    assert said.code == ExitCode.INTERRUPTED
    assert "3 of 8 trials have not run yet" in said.err
    assert not verify_folder(run).faults


def test_a_part_without_results_is_unfinished_and_its_trials_can_be_kept(run: Path) -> None:
    (run / "parts" / "2" / "results.json").unlink()
    refused(say("merge", run), ExitCode.USAGE, "part 2/3 in .* is unfinished")
    assert say("merge", run, "--partial").code == ExitCode.OK  # all of them had finished
    results = json.loads((run / "results.json").read_text())
    assert [one["head"] is None for one in results["parts"]] == [False, True, False]
    assert len(results["trials"]) == TRIALS


def test_a_part_that_is_running_is_refused(run: Path) -> None:
    folder, record = open_attempt(run / "parts" / "2", the_plan(), parse_part("2/3"))
    with folder.claimed(completed(the_plan()), record):
        refused(say("merge", run), ExitCode.USAGE, "another run is writing")


def test_a_part_of_another_plan_is_refused(run: Path) -> None:
    shutil.rmtree(run / "parts" / "2")
    run_part(run, 2, the_plan(seed=1))
    refused(say("merge", run), ExitCode.USAGE, "belong to different plans")


def test_a_part_of_another_split_is_refused(run: Path) -> None:
    shutil.rmtree(run / "parts" / "2")
    run_part(run, 2, count=4)
    refused(say("merge", run), ExitCode.USAGE, "split differently")


def test_a_part_that_is_there_twice_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "parts" / "2", tmp_path / "copy")
    refused(say("merge", run, tmp_path / "copy", "--out", tmp_path / "out"), ExitCode.USAGE, "are both attempt 1")


def test_the_same_folder_named_twice_counts_once(run: Path, tmp_path: Path) -> None:
    assert say("merge", run, run / "parts" / "2", "--out", tmp_path / "out").code == ExitCode.OK


def _evidence(root: Path) -> None:
    path = next((root / "evidence").glob("*.json"))
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4').replace('"seed":3', '"seed":4') + " ")


def _results(root: Path) -> None:
    path = root / "results.json"
    path.write_text(path.read_text().replace('"outcome": "replicated"', '"outcome": "failed"', 1))


def _another_log(root: Path) -> None:
    shutil.copy(next((root.parent / "3" / "logs").glob("*.eval")), root / "logs" / "2026-01-01T00-00-00_x_y.eval")


def _no_log(root: Path) -> None:
    next((root / "logs").glob("*.eval")).unlink()


def _no_plan(root: Path) -> None:
    (root / "plan.json").unlink()


def _renumbered(root: Path) -> None:
    record = json.loads((root / "part.json").read_text())
    (root / "part.json").write_text(json.dumps(record | {"attempt": 7}))


@pytest.mark.parametrize("alter", [_evidence, _results, _another_log, _no_log, _no_plan, _renumbered])
def test_an_altered_part_is_refused_in_one_line(run: Path, alter: Callable[[Path], None]) -> None:
    alter(run / "parts" / "2")
    refused(say("merge", run), ExitCode.EVIDENCE, "2/3")
    assert not (run / "results.json").exists()


def test_an_alarm_in_a_part_is_an_alarm_of_the_whole(run: Path) -> None:
    root = run / "parts" / "2"
    note_alarm(RunFolder(root), AlarmNote(trial="toy-lost", what="network: eth0"))
    (root / "results.json").unlink()
    said = say("merge", run, "--partial")
    assert said.code == ExitCode.SEAL
    assert "network: eth0" in said.err


def test_only_the_last_attempt_counts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = (run / "parts" / "2" / "results.json").read_bytes()
    (run / "parts" / "2" / "results.json").unlink()
    for module in (attempts, part):
        monkeypatch.setattr(module, "own_boot_id", lambda: "another")
    assert run_part(run, 2).name == "2.2"
    (run / "parts" / "2" / "results.json").write_bytes(left)  # the first host was only cut off, and finishes too
    assert say("merge", run).code == ExitCode.OK
    results = json.loads((run / "results.json").read_text())
    assert [one["attempt"] for one in results["parts"]] == [1, 2, 1]
    assert len({trial["id"] for trial in results["trials"]}) == len(results["trials"]) == TRIALS
    assert any("part 2/3 took 2 attempts" in line for line in results["deviations"])


def test_a_merged_folder_is_not_for_an_undivided_run(run: Path) -> None:
    say("merge", run)
    plan = run / "plan.json"
    said = say("run", plan, "--out", run)
    refused(said, ExitCode.USAGE, "contains a run in parts")


def test_a_folder_with_a_run_of_its_own_is_not_replaced(run: Path, tmp_path: Path) -> None:
    whole = RunFolder(tmp_path / "whole")
    run_plan(the_plan(), whole, Silent(), RunOptions(cells=1))
    before = whole.results.read_bytes()
    refused(say("merge", run, "--out", whole.root), ExitCode.USAGE, "a run without parts")
    refused(say("merge", run, "--out", run / "parts" / "1"), ExitCode.USAGE, "contains attempt 1 of part 1/3")
    assert whole.results.read_bytes() == before


def test_a_folder_without_parts_is_refused(tmp_path: Path) -> None:
    refused(say("merge", tmp_path, "--out", tmp_path / "out"), ExitCode.USAGE, "contains no part of a run")
    refused(say("merge", tmp_path / "none"), ExitCode.USAGE, "with --out")


def test_an_altered_list_of_parts_is_found(run: Path) -> None:
    say("merge", run)
    records = json.loads((run / "parts.json").read_text())
    (run / "parts.json").write_text(json.dumps(records[:2]))
    assert any("name different parts" in fault for fault in verify_folder(run).faults)


def test_what_is_missing_on_the_command_line_is_named(tmp_path: Path) -> None:
    refused(say("merge", tmp_path / "absent"), ExitCode.USAGE, r"absent has no folder 'parts': name .* with --out")
    refused(say("merge", tmp_path / "one", tmp_path / "two"), ExitCode.USAGE, r"name .* with --out")
