"""`redline report` on the folder of a real run: reproducible bytes, and faults of the folder at the top."""

import json
import os
import shutil
from pathlib import Path

import pytest

from redline._errors import ExitCode
from redline.report import write_report
from redline.report.pdf import find_browser
from tests.run.folders import REPLICATED, a_run, changed, name, say

pytestmark = pytest.mark.cell  # a runtime must be installed, although no cell starts

ALTERED = f"evidence/{name(REPLICATED)}.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    a_run(folder)
    write_report(folder)
    return folder


@pytest.mark.usefixtures("every_chart_is_drawn")
def test_the_same_folder_gives_the_same_bytes_at_any_path(finished: Path, tmp_path: Path) -> None:
    before = (finished / "report.html").read_bytes()
    elsewhere = Path(shutil.copytree(finished, tmp_path / "elsewhere"))
    shutil.rmtree(elsewhere / "logs")
    assert say("report", elsewhere).code == ExitCode.OK
    assert (elsewhere / "report.html").read_bytes() == before


def test_every_trial_links_to_its_evidence_and_its_transcript(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<details id=") == 4
    for text in (f'href="evidence/{name(REPLICATED).replace("=", "%3D")}.json"', "#/logs/", "Processes and sockets"):
        assert text in page


def test_an_altered_trial_is_reported_at_the_top_with_exit_code_6(finished: Path) -> None:
    whole = (finished / ALTERED).read_bytes()
    with changed(finished / ALTERED, whole.replace(b'"proved": true', b'"proved":true ', 1)):
        said = say("report", finished)
        page = (finished / "report.html").read_text()
    assert said.code == ExitCode.EVIDENCE
    assert f"{ALTERED} is altered" in said.err
    assert page.index(f"{ALTERED} is altered") < page.index("<table")
    assert "No verdict" in page
    assert "No evidence is available for this trial" in page


def test_missing_evidence_is_reported_at_the_top(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "lacking"))
    (folder / ALTERED).unlink()
    assert say("report", folder).code == ExitCode.EVIDENCE
    assert f"{ALTERED} is missing" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"{}", b'{"schema": "redline.results/0", "redline_version": "0.0.1"}']
)
def test_results_with_an_older_schema_or_none_are_reported_on_the_page(finished: Path, content: bytes) -> None:
    with changed(finished / "results.json", content):
        said = say("report", finished, "--out", finished / "logs/older.html")
    page = (finished / "logs/older.html").read_text()
    assert said.code == ExitCode.EVIDENCE
    assert "results.json is altered" in page
    assert "No verdict: its results cannot be read" in page


def test_hostile_file_names_and_bytes_are_escaped(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "hostile"))
    evil = b"\x1b[31m<script>alert(1)</script>\xe2\x80\xae\xff.json"
    Path(os.fsdecode(os.fsencode(folder / "evidence") + b"/" + evil.replace(b"/", b"|"))).write_bytes(
        b"\xff" * 10_000_000
    )
    for arguments in (("report", folder), ("report", folder, "--format", "json"), ("verify", folder)):
        said = say(*arguments)
        assert said.code == ExitCode.EVIDENCE
        assert "belongs to no trial" in said.err
        assert not {"\x1b", "\u202e", "\udcff"} & set(said.out + said.err)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_json_and_markdown_are_printed_to_stdout(finished: Path) -> None:
    document = json.loads(say("report", finished, "--format", "json").out)
    assert document["runs"][0]["headline"]["verdict"] == "none"  # the seal of a run without cells is not verified
    assert len(document["runs"][0]["trials"]) == 4
    assert "\n## No verdict: " in say("report", finished, "--format", "md").out
    assert not (finished / "report.md").exists()


def test_two_runs_share_one_report(finished: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.html"
    assert say("report", finished, finished, "--out", both).code == ExitCode.OK
    page = both.read_text()
    assert f"Run 2: {finished.name}" in page
    assert f"{finished.name}/evidence/" in page  # links are relative to the page


def test_an_invalid_folder_or_output_is_refused_in_one_line(finished: Path, tmp_path: Path) -> None:
    nowhere = say("report", tmp_path / "nothing")
    assert (nowhere.code, nowhere.err.count("\n")) == (ExitCode.USAGE, 1)
    assert say("report", finished, "--out", tmp_path / "no/such/folder.html").code == ExitCode.USAGE
    assert say("report", finished, "--format", "docx").code == ExitCode.USAGE


def test_without_a_browser_a_pdf_is_refused_with_exit_code_2(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = say("report", finished, "--format", "pdf")
    assert (said.code, said.err.count("\n")) == (ExitCode.USAGE, 1)
    assert "install chromium" in said.err


@pytest.mark.browser
def test_a_browser_prints_the_page(finished: Path, tmp_path: Path) -> None:
    assert find_browser()
    assert say("report", finished, "--format", "pdf", "--out", tmp_path / "report.pdf").code == ExitCode.OK
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
