"""The report of a run as one self-contained page: no script, no network, every text escaped."""

import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from redline.report.published import published_trials
from redline.report.table import seal_line
from redline.report.words import (
    beside_words,
    calibration_line,
    calibration_lines,
    limits,
    outcome_words,
    published_line,
    rate_words,
)
from redline.results import Results
from redline.stats import Count, fisher_exact, percent
from redline.verify.verdict import OUTCOMES


def render_report(results: Results) -> str:
    """The page; the same results give the same bytes."""
    environment = Environment(
        loader=PackageLoader("redline.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "rate_words": rate_words,
        "outcome_words": outcome_words,
        "beside_words": beside_words,
    }
    first, second = [row for row in published_trials() if row.scenario == "self_replication"]
    return environment.get_template("report.html").render(
        results=results,
        limits=limits(),
        seal_line=seal_line(results),
        calibration_line=calibration_line(results.calibration, results.seal.runtime),
        calibration_lines=calibration_lines(results.calibration) if results.calibration else (),
        all_outcomes=OUTCOMES,
        published_line=published_line(published_trials()),
        published_p=fisher_exact(Count(k=first.successes, n=first.trials), Count(k=second.successes, n=second.trials)),
        results_sha256=hashlib.sha256(results.document().encode()).hexdigest(),
    )


def write_report(results: Results, path: Path) -> None:
    """Writes the page."""
    path.write_text(render_report(results), encoding="utf-8")
