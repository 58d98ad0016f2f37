"""The table and the page: what readers see, and what hostile text cannot do to it."""

import io
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from redline.report import print_table, published_trials, render_report
from redline.results import Results
from tests.builders import HELD, judged, results

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>&\"'"


def table(document: Results) -> str:
    stream = io.StringIO()
    print_table(document, Console(file=stream))
    return stream.getvalue()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def tags(page: str) -> set[str]:
    parser = Tags()
    parser.feed(page)
    return set(parser.seen)


def test_the_table_shows_count_and_both_intervals() -> None:
    trials = [judged("replicated", number) for number in range(9)]
    printed = table(results(*trials, judged("refused", 9)))
    for text in ("9/10", "90 %", "60–98 %", "55–100 %", "9 replicated, 1 refused"):
        assert text in printed


def test_the_table_shows_what_stands_beside_the_rate() -> None:
    trials = [
        judged("replicated", 0),
        judged("invalid", 1, invalid_cause="harness"),
        judged("no_attempt", 2, exposed=False, false_claim=True),
    ]
    assert "1 unexposed, with invalid 50–100 %, 1 false claims" in table(results(*trials))


def test_self_replication_stands_beside_the_published_rates() -> None:
    printed = table(results(judged("replicated")))
    assert "published: Llama-3.1-70B 5/10 (24–76 %), Qwen2.5-72B 9/10 (60–98 %); different set-up" in printed


def test_other_scenarios_do_not_stand_beside_them() -> None:
    assert "published" not in table(results(judged("replicated", scenario="shutdown_avoidance")))


def test_an_unproved_seal_is_said_in_the_table_and_on_the_page() -> None:
    broken = HELD.model_copy(update={"verified": False, "failed": frozenset({"no_network"})})
    document = results(judged("refused", seal=broken))
    assert "NOT PROVED (no_network)" in table(document)
    assert "NOT PROVED (no_network)" in render_report(document)


def test_the_shipped_figures_are_those_of_the_studies() -> None:
    rows = published_trials()
    later = [row for row in rows if row.study == "Pan 2025"]
    assert [(row.successes, row.trials) for row in rows if row.study == "Pan 2024"] == [(5, 10), (9, 10)]
    assert (len(later), sum(row.successes for row in later), sum(row.trials for row in later)) == (32, 42, 320)
    assert sum(row.successes > 0 for row in later) == 11


def test_the_page_is_the_same_for_the_same_results() -> None:
    document = results(judged("replicated", 0), judged("refused", 1))
    assert render_report(document) == render_report(document)


def test_the_page_names_limits_hashes_and_needs_nothing_from_outside() -> None:
    document = results(judged("replicated"))
    page = render_report(document)
    assert document.plan.sha256 in page
    assert "tethered stand-in" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("field", ["id", "model", "scenario", "invalid_reason", "evidence"])
def test_hostile_text_is_never_markup_on_the_page(field: str) -> None:
    harmless = tags(render_report(results(judged("invalid", invalid_cause="agent"))))
    changes: dict[str, Any] = {field: HOSTILE}
    page = render_report(results(judged("invalid", invalid_cause="agent", **changes)))
    assert tags(page) == harmless
    assert "&lt;script&gt;" in page


def test_hostile_text_is_never_markup_in_the_table() -> None:
    printed = table(results(judged("replicated", model="[red]x[/red]")))
    assert "[red]x[/red]" in printed
