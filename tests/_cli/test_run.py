"""One real run through the command line, and every command on its folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from redline import schemas
from redline._cli.main import execute
from redline._errors import ExitCode

pytestmark = pytest.mark.cell

TRIALS = 2
COMMAND = ("run", "self_replication", "--runtime", "runc", "--trials", str(TRIALS), "--hold", "0.5")
MODELS = ("--model", "redline/replicator", "--model", "redline/refuser")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert execute([*COMMAND, *MODELS, "--out", str(folder)]) == ExitCode.OK
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def results(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return document


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_controls_are_judged_correctly_in_a_verified_seal(finished: Path) -> None:
    document = results(finished)
    outcomes = {entry["model"]: {k: n for k, n in entry["outcomes"].items() if n} for entry in document["conditions"]}
    assert outcomes == {"redline/replicator": {"replicated": TRIALS}, "redline/refuser": {"refused": TRIALS}}
    assert document["seal"]["verified"]
    assert not document["seal"]["probes"]["failed"]


def test_a_run_without_a_plan_file_uses_the_default_rule_and_has_no_deviations(finished: Path) -> None:
    document = results(finished)
    verdicts = {part["model"]: part["verdict"] for part in document["decision"]["parts"]}
    assert verdicts == {"redline/replicator": "crossed", "redline/refuser": "inconclusive"}
    assert document["decision"]["by_default"]
    assert not document["deviations"]


@pytest.mark.long
def test_results_and_evidence_fit_their_schemas(finished: Path) -> None:
    jsonschema.validate(results(finished), json.loads(schemas.shipped("results")))
    for trial in results(finished)["trials"]:
        evidence = json.loads((finished / trial["evidence"]).read_text())
        jsonschema.validate(evidence, json.loads(schemas.shipped("evidence")))
        assert evidence["trial"]["plan_sha256"] == results(finished)["plan"]["sha256"]


def test_evidence_of_a_trial_is_bounded(finished: Path) -> None:
    assert all(path.stat().st_size < 256 * 1024 for path in (finished / "evidence").iterdir())


def test_paths_in_the_results_are_relative_to_them(finished: Path) -> None:
    for trial in results(finished)["trials"]:
        assert (finished / trial["evidence"]).is_file()
        assert (finished / trial["log"]).is_file()


@pytest.mark.long
def test_the_same_command_again_runs_no_trial_and_prints_clean_json(
    copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = results(copy)
    assert execute([*COMMAND, *MODELS, "--out", str(copy), "--json", "--quiet"]) == ExitCode.OK
    printed = capfd.readouterr()
    assert json.loads(printed.out) == before == results(copy)
    assert printed.err == ""


@pytest.mark.parametrize(
    "change",
    [["--seed", "1"], ["-T", "tether=untold"], ["--trials", "3"], ["--hold", "0.6"], ["--model", "redline/idler"]],
)
def test_another_plan_in_the_same_folder_is_refused_and_nothing_is_touched(
    copy: Path, change: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    assert execute([*COMMAND, *MODELS, *change, "--out", str(copy)]) == ExitCode.USAGE
    assert "another plan" in capfd.readouterr().err
    assert contents(copy) == before


def test_stored_evidence_leads_to_the_same_verdicts(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["verify", str(finished)]) == ExitCode.OK
    assert "4 of 4 trials" in capfd.readouterr().out
    assert execute(["verify", str(finished), "--json"]) == ExitCode.OK
    printed = json.loads(capfd.readouterr().out)
    assert printed == {"trials": 4, "right": 4, "faults": [], "notes": [], "signed_by": None}


def test_one_evidence_file_can_be_judged_alone(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trial = results(finished)["trials"][0]
    assert execute(["verify", str(finished / trial["evidence"])]) == ExitCode.OK
    assert trial["outcome"] in capfd.readouterr().out
    assert execute(["verify", str(finished / trial["evidence"]), "--json"]) == ExitCode.OK
    printed = json.loads(capfd.readouterr().out)
    assert printed == {"file": Path(trial["evidence"]).name, "outcome": trial["outcome"], "notes": []}


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_any_flipped_byte_of_evidence_is_reported_with_the_files_name(
    copy: Path, place: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = sorted((copy / "evidence").iterdir())[0]
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    assert execute(["verify", str(copy)]) == ExitCode.EVIDENCE
    assert f"{path.name} is altered" in capfd.readouterr().err
    assert execute(["verify", str(copy), "--json"]) == ExitCode.EVIDENCE
    assert any(f"{path.name} is altered" in fault for fault in json.loads(capfd.readouterr().out)["faults"])


def test_a_missing_and_an_unexpected_evidence_file_are_reported(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = sorted((copy / "evidence").iterdir())[0]
    path.rename(path.with_name("stranger.json"))
    assert execute(["verify", str(copy)]) == ExitCode.EVIDENCE
    printed = capfd.readouterr().err
    assert f"{path.name} is missing" in printed
    assert "stranger.json belongs to no trial" in printed


def test_an_outcome_that_was_changed_in_the_results_is_reported(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "results.json"
    path.write_text(path.read_text().replace('"outcome": "refused"', '"outcome": "replicated"'))
    assert execute(["verify", str(copy)]) == ExitCode.EVIDENCE
    assert "leads to refused, and the results say replicated" in capfd.readouterr().err


def test_a_missing_plan_is_reported(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copy / "plan.json").unlink()
    assert execute(["verify", str(copy)]) == ExitCode.EVIDENCE
    assert "plan.json is missing" in capfd.readouterr().err


@pytest.mark.long
def test_the_report_is_rebuilt_byte_for_byte(copy: Path) -> None:
    before = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    assert execute(["report", str(copy)]) == ExitCode.OK
    assert (copy / "report.html").read_bytes() == before


def test_the_report_as_json_contains_the_results_as_their_schema_has_them(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["report", str(finished), "--format", "json"]) == ExitCode.OK
    printed = capfd.readouterr().out
    assert '"schema_"' not in printed
    (run,) = json.loads(printed)["runs"]
    jsonschema.validate(run["results"], json.loads(schemas.shipped("results")))
    assert run["results"] == results(finished)


@pytest.mark.long
def test_a_report_whose_reader_exits_ends_without_an_error(finished: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "redline", "report", str(finished), "--format", "md"]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.long
def test_a_run_ends_with_a_short_list(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute([*COMMAND, *MODELS, "--out", str(copy)]) == ExitCode.OK
    end = capfd.readouterr().out.rstrip().split("\n")[-5:]
    assert [line[:2] for line in end] == ["- "] * len(end)
    assert end[-2:] == [f"- Evidence: {copy / 'evidence'}", f"- Report: {copy / 'report.html'}"]


@pytest.mark.long
def test_the_doctor_starts_a_real_cell(capfd: pytest.CaptureFixture[str]) -> None:
    code = execute(["doctor", "--json"])
    findings = {finding["what"]: finding for finding in json.loads(capfd.readouterr().out)}
    assert findings["a cell on runc"]["state"] == "ok"
    assert code == ExitCode.OK
