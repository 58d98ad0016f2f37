"""Render the report as one self-contained page: no scripts, no network access, all text escaped."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import TypeAdapter

from redline._errors import UsageError
from redline._text import clean
from redline.report._data import bounds, meanings, phrases
from redline.report.charts import charts, confusion, difference_words, step_words, time_line
from redline.report.comparisons import finding_words
from redline.report.criteria import count_words, criteria_rows
from redline.report.detectors import DETECTOR_COLUMNS, detector_lines
from redline.report.document import ConditionView, Report, report_on
from redline.report.front import fronts, title
from redline.report.guard_charts import guard_charts
from redline.report.guard_summary import SUMMARY_COLUMNS
from redline.report.guards import COLUMNS, guard_lines, power_lines
from redline.report.labels import Label
from redline.report.pdf import print_pdf
from redline.report.record import read_run
from redline.report.trial_view import TrialView
from redline.report.words import (
    INTERVAL_NAME,
    calibration_lines,
    capital,
    condition_words,
    outcome_words,
    published_line,
    rate_notes,
    rate_words,
)
from redline.run.folder import RunFolder, write_bytes, write_text
from redline.stats import clopper_pearson, percent

LONGEST = 20_000
"""Maximum length of one text on a page."""

VIEWER = "http://127.0.0.1:7575"
"""Default address of `inspect view`."""

SMALLEST_P = 0.001

MAX_NAMES = 4
"""Maximum number of conditions that a line of the page names."""

IN_FOLDER = re.compile(r"[A-Za-z0-9._=,+@ -]+(/[A-Za-z0-9._=,+@ -]+)*")


_JSON: TypeAdapter[Report] = TypeAdapter(Report)


@dataclass(frozen=True)
class FileLinks:
    """Links from the page to the files of a run."""

    prefix: str

    def link(self, path: str | None) -> str | None:
        """Return a link to a file of the run; None unless the path is clearly inside the folder of the run."""
        if path is None or not IN_FOLDER.fullmatch(path) or ".." in path.split("/"):
            return None
        return self.prefix + quote(path)

    def transcript(self, trial: TrialView) -> str | None:
        """Return the address of a trial in Inspect's viewer."""
        log, view = trial.result.log, trial.evidence
        if view is None or self.link(log) is None:
            return None
        return f"{VIEWER}/#/logs/{quote(Path(str(log)).name)}/samples/sample/{quote(view.sample)}/1"


def render_page(report: Report, links: Sequence[FileLinks] = (), *, opened: bool = False) -> str:
    """Render the page; the same report gives the same bytes.

    Args:
        report: The report.
        links: Links to the files of each run.
        opened: Whether the parts that a printed page shows are open, for browsers that print only what is open.
    """
    environment = _environment(autoescape=True)
    shown = max(_with_time_line(report), key=lambda trial: sum(trial.result.milestones.values()), default=None)
    return environment.get_template("report.html").render(
        report=report,
        many=len(report.runs) > 1,
        title=title(report),
        fronts=fronts(report),
        kinds={run.headline.kind for run in report.runs},
        interval_name=INTERVAL_NAME,
        printed=_printed(report),
        trial_count=sum(len(run.results.trials) for run in report.runs if run.results is not None),
        min_trials=phrases().min_trials,
        opened=opened,
        confusion=confusion(report),
        summary_columns=SUMMARY_COLUMNS,
        meanings=meanings(),
        links=[*links, *[FileLinks("")] * (len(report.runs) - len(links))],
        charts=charts(report),
        guard_charts=guard_charts(report),
        criteria_rows=criteria_rows(report),
        **_guard_tables(report),
        time_line=time_line(shown, shown.evidence) if shown is not None and shown.evidence is not None else None,
    )


def render_markdown(report: Report) -> str:
    """Render the core of the report as Markdown, for a ticket or a model card."""
    environment = _environment(autoescape=False)
    environment.finalize = lambda value: _markdown(_shown(value))
    return environment.get_template("report.md").render(
        report=report,
        many=len(report.runs) > 1,
        title=title(report),
        fronts=fronts(report),
        interval_name=INTERVAL_NAME,
        summary_columns=SUMMARY_COLUMNS,
        **_guard_tables(report),
    )


def _guard_tables(report: Report) -> dict[str, Any]:
    """Return what HTML and Markdown show about guardrails."""
    return {
        "guard_columns": COLUMNS,
        "guard_lines": list(guard_lines(report.guards)),
        "guard_power": list(power_lines(report.guards)),
        "detector_columns": DETECTOR_COLUMNS,
        "detector_lines": list(detector_lines(report.detectors)),
    }


def as_text(report: Report, form: Literal["md", "json"]) -> str:
    """Render the report as Markdown or JSON."""
    return render_markdown(report) if form == "md" else _JSON.dump_json(report, indent=1, by_alias=True).decode() + "\n"


def write_report(root: Path) -> Report:
    """Read the folder of a run, write its page and return the report.

    Raises:
        UsageError: The folder is not the folder of a run.
    """
    report = report_on([read_run(root)])
    write_page(report, RunFolder(root).report, [root])
    return report


def write_page(
    report: Report, target: Path, roots: Sequence[Path], *, text: str | None = None, as_pdf: bool = False
) -> None:
    """Write the report to a file: the given text, the page, or the page as PDF.

    Raises:
        UsageError: The file cannot be written, or no browser is available for a PDF.
    """
    links = [links_from(target, root) for root in roots]
    content = text if text is not None else render_page(report, links, opened=as_pdf)
    try:
        if as_pdf:
            write_bytes(target, print_pdf(content))
        else:
            write_text(target, content)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; choose another --out") from error


def links_from(page: Path, root: Path) -> FileLinks:
    """Return the links from a page to the files of a run."""
    relative = os.path.relpath(root.absolute(), page.absolute().parent)
    return FileLinks("" if relative == "." else f"{quote(Path(relative).as_posix())}/")


def _printed(report: Report) -> frozenset[str]:
    """Return the trials whose evidence a printed page contains: the first ones of each condition, in turn."""
    groups: dict[int, list[str]] = {}
    for run in report.runs:
        for trial in run.trials:
            groups.setdefault(trial.condition, []).append(trial.result.id)
    in_turn = [one for round_ in zip_longest(*groups.values()) for one in round_ if one is not None]
    return frozenset(in_turn[: bounds().printed])


def _condition_names(numbers: Sequence[int], views: Sequence[ConditionView]) -> str:
    """Return the names of conditions by number; of many, the first ones and a count."""
    names = [str(views[number - 1].label) for number in numbers]
    more = f" and {len(names) - MAX_NAMES} more conditions" if len(names) > MAX_NAMES else ""
    return f"{'; '.join(names[:MAX_NAMES])}{more}"


def _with_time_line(report: Report) -> list[TrialView]:
    """Return the trials with evidence and a timeline."""
    return [trial for run in report.runs for trial in run.trials if trial.evidence is not None and trial.evidence.spans]


@cache
def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("redline.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "percent": percent,
        "rate_words": rate_words,
        "outcome_words": outcome_words,
        "rate_notes": rate_notes,
        "condition_words": condition_words,
        "calibration_lines": calibration_lines,
        "published_line": published_line,
        "difference_words": difference_words,
        "finding_words": finding_words,
        "count_words": count_words,
        "conditions": _condition_names,
        "step_words": step_words,
        "words": lambda name: name.replace("_", " "),
        "anchor": _anchor,
        "capital": capital,
        "p_words": _p_words,
        "exact": lambda row: percent(clopper_pearson(row.successes, row.trials)),
    }
    return environment


def _shown(value: Any) -> Any:
    """Return the value of a template expression without invisible and bidirectional control characters."""
    if isinstance(value, Label):
        value = str(value)
    return clean(value, LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value


MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def _markdown(value: Any) -> Any:
    return MARKDOWN.sub(r"\\\1", " ".join(value.split())) if isinstance(value, str) else value


def _anchor(text: str) -> str:
    return f"trial-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"


def _p_words(p: float) -> str:
    return f"{p:.3f}" if p >= SMALLEST_P else f"< {SMALLEST_P}"
