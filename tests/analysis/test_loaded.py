"""A loaded run was judged again from its evidence; a folder with faults is refused unless the caller accepts them."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import redline
from redline._errors import EvidenceError, ExitCode, UsageError
from redline.analysis.loaded import LoadedRun
from redline.report import RunRecord
from tests.builders import judged, results
from tests.run.folders import OUTCOMES, REPLICATED, a_run, changed, name, say

EVIDENCE = f"evidence/{name(REPLICATED)}.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    a_run(folder, alarm=False)
    return folder


def shown(*trials: str, faults: tuple[str, ...] = (), model: str = "openai/x") -> LoadedRun:
    found = results(*(judged(outcome, number, model=model) for number, outcome in enumerate(trials)), models=(model,))
    return LoadedRun(Path("out"), RunRecord("out", found, None, faults, (), None), found)


@pytest.mark.long
@pytest.mark.cell  # a runtime must be installed, although no cell starts
def test_a_loaded_run_has_its_trials_and_rates(finished: Path) -> None:
    loaded = redline.load(finished)
    assert list(loaded.to_dataframe()["outcome"]) == list(OUTCOMES)
    assert loaded.rates().loc[0, "trials"] == len(OUTCOMES)
    assert loaded.exit_code == ExitCode.OK
    assert redline.verify(str(finished)).faults == ()


@pytest.mark.cell
def test_an_altered_folder_is_refused_unless_the_caller_accepts_its_faults(finished: Path) -> None:
    whole = (finished / EVIDENCE).read_bytes()
    with changed(finished / EVIDENCE, whole + b" "):
        with pytest.raises(EvidenceError, match=f"{EVIDENCE} is altered"):
            redline.load(finished)
        with pytest.raises(EvidenceError, match="is altered"):
            redline.compare(finished, finished)
        assert redline.verify(finished).faults
        loaded = redline.load(finished, strict=False)
        said = say("export", finished)
    assert loaded.exit_code == ExitCode.EVIDENCE
    assert f"{EVIDENCE} is altered" in loaded._repr_html_()
    assert "No verdict" in loaded.decision
    assert (said.code, said.out, said.err.count("\n")) == (ExitCode.EVIDENCE, "", 1)


@pytest.mark.cell
@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b'{"schema": "redline.results/0"}'], ids=len)
def test_unreadable_results_are_refused_in_every_mode(finished: Path, content: bytes) -> None:
    with changed(finished / "results.json", content):
        for strict in (True, False):
            with pytest.raises(EvidenceError, match=r"results\.json is altered"):
                redline.load(finished, strict=strict)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for function in (redline.load, redline.verify, redline.compare):
        with pytest.raises(UsageError, match="not the folder of a finished run"):
            function(tmp_path)


@pytest.mark.cell
def test_the_command_exports_the_same_trials(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    printed = say("export", folder)
    assert printed.code == ExitCode.OK
    assert printed.out.count("\n") == len(OUTCOMES) + 1
    assert say("export", folder, "--format", "csv", "--out", tmp_path / "trials.csv").code == ExitCode.OK
    assert (tmp_path / "trials.csv").read_text() == printed.out
    assert say("export", folder, "--format", "parquet").code == ExitCode.OK
    assert pq.read_table(folder / "trials.parquet").column("outcome").to_pylist() == list(OUTCOMES)
    assert say("verify", folder).code == ExitCode.OK  # the exported file is no record of the run
    assert say("export", folder, "--format", "xlsx").code == ExitCode.USAGE


def test_a_notebook_shows_decision_rates_and_intervals() -> None:
    html = shown(*["replicated"] * 5)._repr_html_()
    for text in ("openai/x", "5/5", "<td>100%</td>", "48–100%"):
        assert text in html


def test_a_notebook_shows_hostile_names_as_inert_text() -> None:
    evil = "\x1b<script>alert(1)</script>\u202e"
    html = shown("refused", model=evil, faults=(evil,))._repr_html_()
    assert "<script" not in html
    assert "\x1b" not in html and "\u202e" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.long
@pytest.mark.slow
def test_the_charts_are_altair_objects_without_variables_of_the_style_sheet() -> None:
    charts = shown("replicated", "refused").charts()
    assert {"forest", "outcomes"} <= set(charts)
    for chart in charts.values():
        text = chart.to_json(validate=False)
        assert "var(--" not in text
        assert "currentColor" not in text
        assert chart.to_dict(validate=False)["title"]
