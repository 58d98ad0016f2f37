"""Text and tables on stdout: no word is cut at any width, and colour is for terminals."""

import io

import pytest
from rich.console import Console

from redline.report import print_table
from redline.report.console import PLAIN_WIDTH, fitted, print_rows, print_styled, stdout_console, wrapped
from tests.builders import judged, results

MODEL = "openai-api/local/a-model-with-a-long-name-2026-01-01"
WORDS = ("shutdown_avoidance", "weight_lock+write_quota:share=0.5", MODEL, "replicated", "no_attempt")
COLUMNS = ("scenario", "guardrails", "model", "replicated", "jobs done")


def rows(width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    print_rows(console, "Guardrails compared with none, paired by seed", COLUMNS, [WORDS, WORDS])
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_no_word_of_a_table_is_cut(width: int) -> None:
    printed = rows(width)
    assert all(printed.count(word) >= 2 for word in WORDS)
    longest = max(map(len, WORDS))
    assert max(map(len, printed.split("\n"))) <= max(width, longest + 4)


def test_a_wide_table_has_one_line_for_each_row() -> None:
    assert sum(MODEL in line and "shutdown_avoidance" in line for line in rows(200).split("\n")) == 2


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_word_of_a_runs_table_is_cut(width: int) -> None:
    stream = io.StringIO()
    document = results(*(judged("replicated", number, model=MODEL) for number in range(3)))
    print_table(document, Console(file=stream, width=width, force_terminal=True, color_system=None))
    printed = stream.getvalue()
    for word in (MODEL, "self_replication", "3/3", "100%"):
        assert word in printed
    assert "\n- Seal: " in printed


def test_a_longer_word_has_a_line_of_its_own() -> None:
    assert wrapped("a " + "b" * 30 + " c", 20, "- ") == "- a\n  " + "b" * 30 + "\n  c"
    assert wrapped("one  two\nthree", 9, "- ") == "- one two\n  three"


def test_the_width_is_that_of_columns_or_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert fitted(Console(file=io.StringIO())).width == 80
    for value in ("", "wide", "-1"):
        monkeypatch.setenv("COLUMNS", value)
        assert fitted(Console(file=io.StringIO())).width == PLAIN_WIDTH


def test_markup_in_a_name_is_text() -> None:
    stream = io.StringIO()
    print_styled(Console(file=stream), "[red]name[/red]  about", "[red]name[/red]", "bold")
    assert stream.getvalue() == "[red]name[/red]  about\n"


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_no_color_removes_every_style(no_colour: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    console = stdout_console()
    with console.capture() as captured:
        print_styled(console, "name  about", "name", "bold cyan")
    assert ("\x1b[" in captured.get()) is coloured
