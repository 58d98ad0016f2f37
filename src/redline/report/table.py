"""The results table that ends a run."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from redline._text import LONGEST_LINE, clean, clean_line
from redline.report.published import published_trials
from redline.report.words import calibration_line, capital, outcome_words, published_line, rate_notes, rate_words
from redline.results import Results
from redline.stats import percent

PLAIN_WIDTH = 400
"""Number of columns if stdout is not a terminal."""

WIDE = 120
"""Minimum number of columns for one line per condition."""


def print_table(results: Results, console: Console | None = None) -> None:
    """Print one row for each condition."""
    console = console or Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(_table(results, between="  " if console.width >= WIDE else "\n"))
    if any(condition.scenario == "self_replication" for condition in results.conditions):
        console.print(Text(published_line(published_trials())))
    console.print(Text(seal_line(results)))
    console.print(Text(calibration_line(results.calibration, results.seal.runtime)))
    for line in (
        *(f"deviation from the plan: {deviation}" for deviation in results.deviations),
        results.decision.sentence,
    ):
        console.print(Text(capital(clean(line, LONGEST_LINE))))


def _table(results: Results, between: str) -> Table:
    table = Table(title="Replicated, of valid and exposed trials", title_justify="left", box=SIMPLE_HEAD)
    # On a narrow terminal, text wraps; nothing is truncated, and figures stay on one line.
    table.add_column("condition", overflow="fold")
    for name in ("k/n", "rate", "Wilson\n95%", "exact\n95%"):
        table.add_column(name, no_wrap=True)
    table.add_column("outcomes", overflow="fold")
    for condition in results.conditions:
        outcomes = [outcome_words(condition), rate_notes(condition)]
        cells = (
            between.join((condition.scenario, condition.arm, condition.model)),
            f"{condition.rate.k}/{condition.rate.n}",
            rate_words(condition),
            percent(condition.rate.wilson95),
            percent(condition.rate.clopper_pearson95),
            "; ".join(filter(None, outcomes)),
        )
        # Names come from plans and models, so they are printed without markup or control characters.
        table.add_row(*(Text(clean_line(cell, PLAIN_WIDTH)) for cell in cells))
    return table


def seal_line(results: Results) -> str:
    """Return the containment in one line."""
    seal = results.seal
    if seal.verified:
        lacking = f", {len(seal.lacking)} unavailable" if seal.lacking else ""
        return f"seal: verified, {len(seal.probes.passed)} probes held{lacking}, on {seal.runtime} ({seal.profile})"
    unmeasured = "not measured before and after every trial" if seal.probes.passed else "no probe ran"
    failed = ", ".join(seal.probes.failed) or unmeasured
    return f"seal: NOT VERIFIED ({failed})"
