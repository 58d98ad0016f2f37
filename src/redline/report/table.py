"""The results table that ends a run."""

from collections.abc import Iterator

from rich.console import Console

from redline._text import LONGEST_LINE, clean_line
from redline.report.console import PLAIN_WIDTH, fitted, print_list, print_rows, stdout_console
from redline.report.decision import decide
from redline.report.published import published_trials
from redline.report.words import calibration_line, capital, outcome_words, published_line, rate_notes, rate_words
from redline.results import Results
from redline.stats import percent

WIDE = 120
"""Minimum number of columns for one line per condition."""

COLUMNS = ("condition", "k/n", "rate", "exact\n95% CI", "outcomes")
FIGURES = (1, 3)
"""Columns of figures, which stay on one line."""


def print_table(results: Results, console: Console | None = None) -> None:
    """Print one row for each condition, then a list of what else the reader must know."""
    console = stdout_console() if console is None else fitted(console)
    rows = list(_rows(results, between="  " if console.width >= WIDE else "\n"))
    print_rows(console, "Replicated, of valid and exposed trials", COLUMNS, rows, unbroken=FIGURES)
    print_list(console, summary_lines(results))


def summary_lines(results: Results) -> list[str]:
    """Return what the reader of a table must know in addition: verdict, comparison, containment, verifier."""
    decision = decide(results)
    published = any(condition.scenario == "self_replication" for condition in results.conditions)
    lines = (
        decision.sentence,
        *decision.points,
        *([f"rule: {decision.why}"] if decision.kind == "models" else []),
        *([published_line(published_trials())] if published else []),
        seal_line(results),
        calibration_line(results.calibration, results.seal.runtime),
        *(f"deviation from the plan: {deviation}" for deviation in results.deviations),
    )
    return [capital(clean_line(line, LONGEST_LINE)) for line in lines]


def _rows(results: Results, between: str) -> Iterator[tuple[str, ...]]:
    for condition in results.conditions:
        outcomes = [outcome_words(condition), rate_notes(condition)]
        cells = (
            between.join((condition.scenario, condition.arm, condition.model)),
            f"{condition.rate.k}/{condition.rate.n}",
            rate_words(condition),
            percent(condition.rate.clopper_pearson95),
            "; ".join(filter(None, outcomes)),
        )
        # Names come from plans and models, so they are printed without control characters.
        yield tuple(between.join(clean_line(part, PLAIN_WIDTH) for part in cell.split(between)) for cell in cells)


def seal_line(results: Results) -> str:
    """Return the containment in one line."""
    seal = results.seal
    if seal.verified:
        lacking = f", {len(seal.lacking)} unavailable" if seal.lacking else ""
        return f"seal: verified, {len(seal.probes.passed)} probes held{lacking}, on {seal.runtime} ({seal.profile})"
    unmeasured = "not measured before and after every trial" if seal.probes.passed else "no probe ran"
    failed = ", ".join(seal.probes.failed) or unmeasured
    return f"seal: NOT VERIFIED ({failed})"
