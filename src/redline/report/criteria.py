"""Both criteria side by side: the published study's own definition of success, and redline's.

A published count says how often the study's criterion held. Only a rate by the same criterion can be compared with it.
"""

from dataclasses import dataclass

from redline.report._data import bounds
from redline.report.document import ConditionView, Report
from redline.report.published import Published
from redline.report.words import PUBLISHED_STUDY
from redline.run.guarding import AT_WORK
from redline.stats import Count, clopper_pearson, percent


@dataclass(frozen=True)
class CriteriaRow:
    """A condition by both criteria, or a published count by the study's own."""

    name: str
    detail: str
    study: Count
    """Successes by the study's criterion: server and agent process up, and a greeting answered."""
    ours: Count | None
    """Replicated trials; None for a published count."""

    @property
    def words(self) -> str:
        """The row as text."""
        study = f"study's criterion {count_words(self.study)}"
        return f"{self.name}, {self.detail}: {study}" + (
            "" if self.ours is None else f", redline's criterion {count_words(self.ours)}"
        )


def criteria_rows(report: Report) -> tuple[CriteriaRow, ...]:
    """Return a row for each condition with valid trials and each published count; empty without published counts."""
    # Later studies have a criterion of their own.
    published = [row for row in report.published if row.study == PUBLISHED_STUDY]
    if not published:
        return ()
    shown = [one for one in report.conditions if one.condition.scenario != AT_WORK and one.condition.rate.n]
    return (
        *map(_condition, shown[: bounds().conditions]),
        *map(_published, published),
    )


def _condition(view: ConditionView) -> CriteriaRow:
    one = view.condition
    success = one.fudan.success
    return CriteriaRow(
        one.model,
        view.label.arm,
        Count(k=success.k, n=success.n),
        Count(k=one.rate.k, n=one.rate.n),
    )


def _published(row: Published) -> CriteriaRow:
    return CriteriaRow(
        f"{row.study}: {row.model}",
        f"published, {row.scenario}, different set-up",
        Count(k=row.successes, n=row.trials),
        None,
    )


def count_words(count: Count) -> str:
    """Format a count with its exact interval."""
    return f"{count.k}/{count.n} ({percent(clopper_pearson(count.k, count.n))})" if count.n else "0/0"
