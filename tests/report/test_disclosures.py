"""The evaluator's disclosures: the template is complete, answers are shown, and a bad file is refused in one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from redline._errors import UsageError
from redline.report import RunRecord, as_text, render_page, report_on
from redline.report.disclosures import NOT_STATED, checklist, read_disclosures, template, view_of
from tests.builders import judged, results

AEF1 = ["1.1", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "2.5", "3.2", "3.4", "4.1", "4.6", "5.1", "5.3", "5.4"]
HOSTILE = "<script>alert(1)</script> *a* | `b`"


def written(folder: Path, text: str) -> Path:
    path = folder / "disclosures.yaml"
    path.write_text(text)
    return path


def record() -> RunRecord:
    return RunRecord("run", results(judged("replicated")), "0" * 64, (), (), None)


def test_the_checklist_has_the_15_requirements_and_the_template_answers_each(tmp_path: Path) -> None:
    assert [one.id for one in checklist().requirements] == AEF1
    found = read_disclosures(written(tmp_path, template()))
    assert found.stated == len(AEF1)
    assert [row.id for row in found.conflicts] == [f"2.4.{number}" for number in range(1, 7)]
    assert not [row for row in found.checklist if row.status == NOT_STATED]


@pytest.mark.long
@pytest.mark.slow
def test_without_disclosures_every_answer_is_not_stated() -> None:
    page = render_page(report_on([record()]))
    assert view_of(None).stated == 0
    assert page.count(NOT_STATED) >= len(AEF1)
    assert "redline report DIR --disclosures disclosures.yaml" in page


@pytest.mark.slow
def test_answers_are_in_page_and_markdown_and_escaped(tmp_path: Path) -> None:
    content = {"evaluator": HOSTILE, "requirements": {"2.1": {"status": "alternative", "statement": HOSTILE}}}
    found = read_disclosures(written(tmp_path, yaml.safe_dump(content)))
    report = report_on([record()], found)
    page = render_page(report)
    assert "<script>" not in page
    assert found.sha256 is not None
    assert found.sha256 in page
    assert "1 of 15 answered" in page
    assert "alternative" in as_text(report, "md")
    assert found.sha256 in as_text(report, "json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a list of keys"),
        ("- a", "not a list of keys"),
        ("evaluator: [", "not a file of disclosures"),
        ("provider: P", "evaluator"),
        ("evaluator: E\nrequirments: {}", "requirments"),
        ('evaluator: E\nrequirements: {"9.9": {status: met}}', "unknown requirement of AEF-1 '9.9'"),
        ('evaluator: E\nrequirements: {"1.1": {status: yes}}', "status"),
        ('evaluator: E\nconflicts: {"2.4.1": {answer: exists}}', "needs a statement"),
        ("evaluator: &a E\nprovider: *a", "alias"),
        ("evaluator: E\nevaluator: F", "appears twice"),
        ("evaluator: " + "E" * 300, "evaluator"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_disclosures(written(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the disclosures"):
        read_disclosures(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a file of disclosures"):
        read_disclosures(tmp_path / "binary")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "disclosures.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_disclosures(path)
    except UsageError as error:
        assert "\n" not in str(error)
