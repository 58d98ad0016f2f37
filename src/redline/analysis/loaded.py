"""Runs for scripts and notebooks: load, verify and compare their folders, and show them as tables and charts."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from redline._errors import EvidenceError, ExitCode
from redline._text import clean_line
from redline.analysis.tables import Table, as_frame, comparison_table, rate_table, trial_table
from redline.report import Report, RunRecord, read_run, report_on
from redline.report.decision import controls_remark
from redline.results import Condition, Results, TrialResult
from redline.run import Checked, verify_folder
from redline.run.signature import read_public_key
from redline.stats import percent

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MAX_SHOWN = 50
"""Maximum number of rows that a notebook shows by itself."""

TEXT = 300


class LoadedRun:
    """A run whose trials were judged again from their evidence.

    `redline.run` and `redline.load` return it. A notebook shows it as the decision and one row per condition.
    """

    def __init__(
        self,
        folder: Path,
        record: RunRecord,
        results: Results,
        *,
        exit_code: ExitCode = ExitCode.OK,
        remarks: Sequence[str] = (),
    ) -> None:
        """Store what was read; `redline.load` reads a folder.

        Args:
            folder: Folder of the run.
            record: The run as read from the folder.
            results: Its results.
            exit_code: Exit code that the command has for this outcome.
            remarks: Remarks of the run, one line each.
        """
        self.folder = folder
        """Folder of the run."""
        self.results = results
        """The document `results.json`."""
        self.faults = record.faults
        """Altered, missing or unexpected records, one line each. With faults, the run supports no claim."""
        self.notes = record.notes
        """Further remarks about the folder, one line each."""
        self.exit_code = exit_code
        """Exit code that `redline run` or `redline verify` has for this outcome."""
        self.remarks = tuple(remarks)
        """What the user must know in addition to the rates, one line each."""
        self._record = record

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """One entry per trial that ran."""
        return self.results.trials

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """One entry per arm and model."""
        return self.results.conditions

    @property
    def decision(self) -> str:
        """The decision of the plan's rule in one sentence."""
        return self._report.runs[0].headline.sentence

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row per trial: outcome, milestones as boolean columns, factors, measures, seconds and tokens.

        Raises:
            UsageError: pandas is not installed.
        """
        return as_frame(self.trial_table())

    def rates(self) -> "pd.DataFrame":
        """Return one row per condition: k, n, estimate, and the Wilson and the exact 95% interval.

        Raises:
            UsageError: pandas is not installed.
        """
        return as_frame(rate_table(self.conditions))

    def trial_table(self) -> Table:
        """Return the table of `to_dataframe` as plain rows, without pandas."""
        return trial_table(self.results)

    def charts(self) -> "dict[str, alt.LayerChart]":
        """Return the charts of the report as Altair objects, by key such as `forest` and `outcomes`."""
        from redline.analysis.figures import figures

        return figures(self._report)

    @cached_property
    def _report(self) -> Report:
        return report_on([self._record])

    def __repr__(self) -> str:
        """Return folder, number of trials and decision in one line."""
        fault = f", {len(self.faults)} faults" if self.faults else ""
        return clean_line(f"<run {self.folder}: {len(self.trials)} trials{fault}. {self.decision}>", TEXT)

    def _repr_html_(self) -> str:
        """Return the decision and the rates as inert HTML."""
        remark = controls_remark(self.results)
        lines = [*self.faults, self.decision, *([] if remark is None else [remark]), *self.remarks]
        head = ("scenario", "arm", "model", "k/n", "rate", "exact 95% interval", "invalid")
        rows = [
            (
                one.scenario,
                one.arm,
                one.model,
                f"{one.rate.k}/{one.rate.n}",
                "–" if one.rate.estimate is None else f"{100 * one.rate.estimate:.0f}%",
                percent(one.rate.clopper_pearson95),
                one.outcomes.get("invalid", 0),
            )
            for one in self.conditions
        ]
        return _html(lines, head, rows)


class ComparedRuns:
    """The comparison of several runs, and of the conditions within each of them."""

    def __init__(self, runs: Sequence[LoadedRun]) -> None:
        """Compare the runs; `redline.compare` reads their folders."""
        self.runs = tuple(runs)
        """The runs."""
        names = [run._record for run in runs]
        self.report = report_on(names)
        """The content of the report on these runs."""

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row per comparison: both counts, the difference with its 95% interval, p, and p by Holm's method.

        Raises:
            UsageError: pandas is not installed.
        """
        return as_frame(comparison_table(self.report))

    def charts(self) -> "dict[str, alt.LayerChart]":
        """Return the charts of the report on all runs as Altair objects, by key."""
        from redline.analysis.figures import figures

        return figures(self.report)

    def __repr__(self) -> str:
        """Return the folders and the number of comparisons in one line."""
        folders = ", ".join(str(run.folder) for run in self.runs)
        return clean_line(f"<comparison of {folders}: {len(self.report.comparisons)} comparisons>", TEXT)

    def _repr_html_(self) -> str:
        """Return the comparisons as inert HTML."""
        table = comparison_table(self.report)
        rows = [[_shown(row.get(name)) for name in table.columns] for row in table.rows]
        lines = [] if rows else ["No two conditions differ in one respect only."]
        return _html(lines, list(table.columns), rows)


def load(folder: str | os.PathLike[str], *, strict: bool = True) -> LoadedRun:
    """Read the folder of a run, and judge every trial again from its evidence.

    Args:
        folder: Folder of the run.
        strict: Whether to refuse a folder with altered, missing or unexpected records. Without it, the faults are in
            `faults`, and the run supports no claim.

    Raises:
        EvidenceError: A record is altered, missing or unexpected, or the results cannot be read.
        UsageError: It is not the folder of a finished run.
    """
    root = Path(folder)
    record = read_run(root)
    if record.results is None or (strict and record.faults):
        more = f", and {len(record.faults) - 1} more faults" if len(record.faults) > 1 else ""
        raise EvidenceError(f"{record.faults[0]}{more}. Run `redline verify` on {clean_line(root)} to list all faults.")
    return LoadedRun(root, record, record.results, exit_code=ExitCode.EVIDENCE if record.faults else ExitCode.OK)


def verify(folder: str | os.PathLike[str], *, key: str | os.PathLike[str] | None = None) -> Checked:
    """Verify the records of a run against their hash chain, and every trial against its evidence.

    Args:
        folder: Folder of the run.
        key: File of the Ed25519 public key that must have signed the results; None requires no signature.

    Returns:
        The result. The folder is unaltered if `faults` is empty.

    Raises:
        EvidenceError: The results cannot be read.
        UsageError: It is not the folder of a finished run, or the file contains no public key.
    """
    return verify_folder(Path(folder), None if key is None else read_public_key(Path(key)))


def compare(first: str | os.PathLike[str], *others: str | os.PathLike[str]) -> ComparedRuns:
    """Compare the conditions of one or several runs, as `redline report DIR DIR2` does.

    Args:
        first: Folder of the run with the baseline.
        others: Folders of the other runs.

    Raises:
        EvidenceError: A record of a run is altered, missing or unexpected.
        UsageError: A folder is not the folder of a finished run.
    """
    return ComparedRuns([load(folder) for folder in (first, *others)])


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _html(lines: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return paragraphs and a table; every text is escaped and without control characters."""
    parts = [Markup("<p>{}</p>").format(clean_line(line, TEXT)) for line in lines]
    if rows:
        body = Markup("").join(_tr("td", row) for row in rows[:MAX_SHOWN])
        parts.append(Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(_tr("th", head), body))
    if len(rows) > MAX_SHOWN:
        parts.append(Markup("<p>{} more rows are not shown.</p>").format(len(rows) - MAX_SHOWN))
    return str(Markup("").join(parts))


def _tr(tag: str, cells: Sequence[object]) -> Markup:
    cell = Markup(f"<{tag}>{{}}</{tag}>")
    return Markup("<tr>{}</tr>").format(Markup("").join(cell.format(clean_line(value, TEXT)) for value in cells))
