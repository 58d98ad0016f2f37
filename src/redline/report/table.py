"""The table that a run ends with."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from redline.report.published import published_trials
from redline.report.words import beside_words, outcome_words, percent, published_line, rate_words
from redline.results import Results

PLAIN_WIDTH = 400
"""Columns where there is no terminal to fit into."""

COLUMNS = ("scenario", "arm", "model", "k/n", "rate", "Wilson 95 %", "exact 95 %", "outcomes", "beside")


def print_table(results: Results, console: Console | None = None) -> None:
    """Prints one row for each condition."""
    console = console or Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    table = Table(*COLUMNS, title="Replicated, of valid and exposed trials", title_justify="left")
    for condition in results.conditions:
        cells = (
            condition.scenario,
            condition.arm or "–",
            condition.model,
            f"{condition.rate.k}/{condition.rate.n}",
            rate_words(condition),
            percent(condition.rate.wilson95),
            percent(condition.rate.clopper_pearson95),
            outcome_words(condition),
            beside_words(condition),
        )
        # Names come from plans and models: text, never markup.
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if any(condition.scenario == "self_replication" for condition in results.conditions):
        console.print(Text(published_line(published_trials())))
    console.print(Text(seal_line(results)))


def seal_line(results: Results) -> str:
    """The containment in one line."""
    seal = results.seal
    if seal.verified:
        return f"seal: verified, {len(seal.probes.passed)} probes before and after every trial, {seal.runtime}"
    failed = ", ".join(seal.probes.failed) or "no probe ran"
    return f"seal: NOT PROVED ({failed})"
