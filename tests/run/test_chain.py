"""Any change to a run's records is reported with the file's name; an unaltered folder gives the same verdicts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline import __version__
from redline._errors import ExitCode
from redline.results import Results
from redline.run import RunFolder
from redline.run.chain import chained
from tests.run.folders import ERRORED, FLOODED, IDLE, OUTCOMES, REPLICATED, a_run, changed, name, say

pytestmark = pytest.mark.cell  # needs a runtime, although no cell is created

ATTACHMENT = f"evidence/{name(FLOODED)}/whole.json"
CHAINED = (
    "plan.json",
    "alarms.jsonl",
    "prompts.json",
    "results.json",
    *(f"evidence/{name(number)}.json" for number in range(len(OUTCOMES))),
    ATTACHMENT,
)
BOUND = 256 * 1024


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    outcome = a_run(folder)
    assert [trial.outcome for trial in outcome.results.trials] == list(OUTCOMES)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def rewritten(folder: Path, **changes: object) -> None:
    """Change the results and recompute their chain, as an attacker would."""
    results = Results.model_validate_json((folder / "results.json").read_bytes())
    forged = results.model_copy(update=changes)
    (folder / "results.json").write_text(chained(forged, RunFolder(folder)).document())


def test_an_unaltered_folder_leads_to_the_same_verdicts_without_logs(copy: Path) -> None:
    shutil.rmtree(copy / "logs")
    said = say("verify", copy)
    assert (said.code, said.err) == (ExitCode.OK, "")
    assert said.out == "4 of 4 trials: evidence unaltered, same verdict\n"


AUDITED = """
import os, sys

def forbid(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "socket.connect") or (
        event == "open" and str(arguments[0]).endswith(".eval")
    ):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(99)

from redline._cli.main import execute
import redline.run

sys.addaudithook(forbid)
sys.exit(execute(sys.argv[1:]))
"""


def test_verifying_starts_no_process_opens_no_connection_and_reads_no_log(finished: Path) -> None:
    command = [sys.executable, "-c", AUDITED, "verify", str(finished)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_every_document_of_the_run_is_in_the_chain(finished: Path) -> None:
    documents = {path.relative_to(finished).as_posix() for path in finished.rglob("*.json*")}
    documents = {document for document in documents if not document.startswith("logs/")}
    assert documents == set(CHAINED)


@settings(max_examples=120)
@given(file=st.sampled_from(CHAINED), place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_any_file_is_reported_with_the_files_name(
    finished: Path, file: str, place: float, bit: int
) -> None:
    content = bytearray((finished / file).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    with changed(finished / file, bytes(content)):
        said = say("verify", finished)
    assert said.code == ExitCode.EVIDENCE
    assert any(f"{file} is altered" in line for line in said.err.splitlines())


@given(data=st.data())
def test_a_flipped_bit_in_the_results_is_reported(finished: Path, data: st.DataObject) -> None:
    content = bytearray((finished / "results.json").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with changed(finished / "results.json", bytes(content)):
        said = say("verify", finished)
    assert said.code == ExitCode.EVIDENCE
    assert "results.json is altered" in said.err


@pytest.mark.parametrize("file", CHAINED)
@pytest.mark.parametrize("added", [b" ", b"\n", b"x"])
@pytest.mark.first_cases(9)
def test_an_added_or_removed_byte_is_reported(finished: Path, file: str, added: bytes) -> None:
    content = (finished / file).read_bytes()
    for other in (content + added, content[:-1], added + content):
        with changed(finished / file, other):
            said = say("verify", finished)
        assert said.code == ExitCode.EVIDENCE
        assert f"{file} is altered" in said.err


@pytest.mark.parametrize("file", CHAINED)
def test_a_missing_file_is_reported(copy: Path, file: str) -> None:
    (copy / file).unlink()
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert f"{file} is missing" in said.err


@pytest.mark.parametrize(
    "file", ["more.jsonl", "more.json", "evidence/more.json", "evidence/more", f"evidence/{name(FLOODED)}/more.json"]
)
def test_an_additional_file_is_reported(copy: Path, file: str) -> None:
    (copy / file).write_text("{}")
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert file in said.err


def test_faults_of_several_files_are_all_reported(copy: Path) -> None:
    (copy / "alarms.jsonl").unlink()
    (copy / f"evidence/{name(IDLE)}.json").write_text("{}")
    said = say("verify", copy)
    assert "alarms.jsonl is missing" in said.err
    assert f"{name(IDLE)}.json is altered" in said.err
    assert "3 of 4 trials" in said.out


def test_evidence_and_plan_are_bound_by_the_plans_hash(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    plan = json.loads((finished / "plan.json").read_text())
    evidence = [json.loads((finished / trial["evidence"]).read_text()) for trial in results["trials"]]
    assert {one["trial"]["plan_sha256"] for one in evidence} == {plan["sha256"]} == {results["plan"]["sha256"]}


def test_a_changed_outcome_is_reported_even_with_a_recomputed_chain(copy: Path) -> None:
    trials = Results.model_validate_json((copy / "results.json").read_bytes()).trials
    rewritten(copy, trials=(trials[REPLICATED].model_copy(update={"outcome": "no_attempt"}), *trials[1:]))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert f"{name(REPLICATED)}.json leads to replicated, and the results say no_attempt" in said.err


def test_a_changed_seal_is_reported_even_with_a_recomputed_chain(copy: Path) -> None:
    seal = Results.model_validate_json((copy / "results.json").read_bytes()).seal
    rewritten(copy, seal=seal.model_copy(update={"verified": not seal.verified}))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert "the seal in results.json does not follow from seals.jsonl and its trials" in said.err


@pytest.mark.parametrize("change", [{"exposed": True}, {"claimed": True}, {"replicas": ()}, {"invalid_reason": "none"}])
def test_any_other_change_to_a_verdict_is_reported(copy: Path, change: dict[str, object]) -> None:
    trials = Results.model_validate_json((copy / "results.json").read_bytes()).trials
    rewritten(copy, trials=(trials[REPLICATED].model_copy(update=change), *trials[1:]))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert f"leads to a verdict that differs from the results: {next(iter(change))}" in said.err


def test_a_verdict_without_evidence_is_reported(copy: Path) -> None:
    trials = Results.model_validate_json((copy / "results.json").read_bytes()).trials
    rewritten(copy, trials=(trials[REPLICATED].model_copy(update={"evidence": None}), *trials[1:]))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert f"says replicated of {name(REPLICATED)} and names no evidence" in said.err


def test_evidence_that_is_counted_twice_is_reported(copy: Path) -> None:
    trials = Results.model_validate_json((copy / "results.json").read_bytes()).trials
    again = trials[REPLICATED].model_copy(update={"id": trials[IDLE].id})
    rewritten(copy, trials=(trials[REPLICATED], again, *trials[IDLE + 1 :]))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert f"{name(REPLICATED)}.json belongs to another trial than the results say" in said.err


def test_evidence_attributed_to_another_model_is_reported(copy: Path) -> None:
    trials = Results.model_validate_json((copy / "results.json").read_bytes()).trials
    other = trials[REPLICATED].model_copy(
        update={"model": "openai/x", "id": trials[REPLICATED].id.replace("redline_refuser", "openai_x")}
    )
    rewritten(copy, trials=(other, *trials[1:]))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert f"{name(REPLICATED)}.json belongs to another trial than the results say" in said.err


def test_missing_planned_trials_are_counted(copy: Path) -> None:
    results = Results.model_validate_json((copy / "results.json").read_bytes())
    (copy / f"evidence/{name(IDLE)}.json").unlink()
    kept = tuple(trial for trial in results.trials if trial.id != name(IDLE))
    rewritten(copy, trials=kept)
    assert "3 of 4 planned trials are in the results" in say("verify", copy).err


def test_a_rate_that_does_not_follow_from_its_trials_is_reported(copy: Path) -> None:
    (condition,) = Results.model_validate_json((copy / "results.json").read_bytes()).conditions
    rewritten(copy, conditions=(condition.model_copy(update={"false_claims": 3}),))
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert "the rates in results.json do not follow from its trials" in said.err


def test_a_trial_that_ended_in_an_error_is_invalid_by_its_evidence_alone(finished: Path) -> None:
    said = say("verify", finished / f"evidence/{name(ERRORED)}.json")
    assert (said.code, said.out) == (ExitCode.OK, f"{name(ERRORED)}.json: invalid\n")


def test_a_single_evidence_file_is_checked_against_the_results_of_its_folder(copy: Path) -> None:
    path = copy / f"evidence/{name(IDLE)}.json"
    path.write_text(path.read_text().replace('"turns": 1', '"turns": 2'))
    said = say("verify", path)
    assert said.code == ExitCode.EVIDENCE
    assert f"{path.name} is altered" in said.err


def test_evidence_outside_its_run_is_judged_with_its_attachments(copy: Path, tmp_path: Path) -> None:
    path = shutil.copy(copy / f"evidence/{name(FLOODED)}.json", tmp_path)
    said = say("verify", path)
    assert said.code == ExitCode.EVIDENCE
    assert "whole.json is missing" in said.err
    shutil.copytree(copy / f"evidence/{name(FLOODED)}", tmp_path / name(FLOODED))
    assert say("verify", path).out == f"{name(FLOODED)}.json: replicated\n"


def test_evidence_of_many_processes_is_bounded_and_its_attachment_gives_the_same_verdict(
    finished: Path,
) -> None:
    assert all(path.stat().st_size < BOUND for path in (finished / "evidence").glob("*.json"))
    assert (finished / ATTACHMENT).stat().st_size > BOUND
    assert say("verify", finished / ATTACHMENT).out == "whole.json: replicated\n"


def test_another_version_with_the_same_schema_is_reported_in_one_line_and_judged(copy: Path) -> None:
    rewritten(copy, redline_version="0.0.1")
    said = say("verify", copy)
    assert said.code == ExitCode.OK
    assert said.err == f"redline: written by redline 0.0.1; this is redline {__version__}, which uses the same schema\n"


@pytest.mark.parametrize("file", ["results.json", f"evidence/{name(IDLE)}.json"])
def test_another_schema_is_reported_in_one_line_and_not_judged(copy: Path, file: str) -> None:
    path = copy / file
    document = json.loads(path.read_text())
    document |= {"schema": document["schema"].replace("/1", "/2"), "redline_version": "9.0", "more": 1}
    path.write_text(json.dumps(document))
    said = say("verify", copy if file == "results.json" else path)
    assert said.code == ExitCode.EVIDENCE
    assert said.err.count("\n") == 1
    assert f"schema {document['schema']} of redline 9.0" in said.err


def test_a_folder_without_results_is_not_a_finished_run(copy: Path) -> None:
    (copy / "results.json").unlink()
    said = say("verify", copy)
    assert said.code == ExitCode.EVIDENCE
    assert said.err.count("\n") == 1


def test_temporary_files_of_a_killed_write_are_removed_by_the_next_run(tmp_path: Path) -> None:
    a_run(tmp_path, trials=2)
    left = tmp_path / f"evidence/.{name(IDLE)}.json.x7"
    left.write_text("{")
    assert say("verify", tmp_path).code == ExitCode.EVIDENCE
    a_run(tmp_path, trials=2, alarm=False)
    assert not left.exists()
    assert say("verify", tmp_path).code == ExitCode.OK
