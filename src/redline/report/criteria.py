"""Both criteria side by side: the published study's own definition of success, and redline's.

A published count says how often the study's criterion held. Only a rate by the same criterion can be compared with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import altair as alt

from redline.report._data import bounds
from redline.report.document import ConditionView, Report
from redline.report.drawing import INK, LINE, OURS, THEIRS, Chart, Layered, Size, chart, labels, over, text
from redline.report.published import Published
from redline.report.words import PUBLISHED_STUDY, condition_words
from redline.run.guarding import AT_WORK
from redline.stats import Count, clopper_pearson, percent

APART = 0.14
"""Half of the distance between the two marks of a row, in rows."""


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
        f"#{view.number} {one.model}",
        condition_words(one),
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


def criteria_chart(rows: Sequence[CriteriaRow]) -> Chart | None:
    """Return the chart of both criteria; None without rows."""
    if not rows:
        return None
    return chart(
        "criteria",
        "The study’s own criterion (diamond) and redline’s (circle), with exact 95% intervals",
        f"{'; '.join(row.words for row in rows)}.",
        lambda size: _layers(rows, size),
    )


def _layers(rows: Sequence[CriteriaRow], size: Size) -> Layered:
    values = [value for place, row in enumerate(rows) for value in _marks(place, row)]
    named = [
        {
            "y": place,
            **size.label(row.name, row.detail),
            "figure": f"◇ {row.study.k}/{row.study.n}" + ("" if row.ours is None else f"  ● {row.ours.k}/{row.ours.n}"),
        }
        for place, row in enumerate(rows)
    ]
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(rows) - 0.5], reverse=True, nice=False))
    x = alt.X("low:Q", title="% of valid and exposed trials", scale=alt.Scale(domain=[0, 100]))
    colour = alt.condition("datum.ours", alt.value(OURS), alt.value(THEIRS))
    base, names = over(values), over(named)
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", y=y, color=colour),
        base.transform_filter("datum.ours")
        .mark_point(filled=True, shape="circle", size=80, opacity=1, color=OURS)
        .encode(x=alt.X("estimate:Q"), y=y),
        base.transform_filter("!datum.ours")
        .mark_point(filled=False, shape="diamond", size=80, strokeWidth=2, opacity=1, color=THEIRS)
        .encode(x=alt.X("estimate:Q"), y=y),
        over([{"x": 50}]).mark_rule(color=INK, opacity=0.4, strokeDash=[3, 3]).encode(x="x:Q"),
        *labels(names, size, y, dy=-16),
        text(names, "figure", align="right", dy=-16 - LINE * (size.lines - 1)).encode(x=alt.XDatum(100), y=y),
    ).properties(width=size.width, height=(size.step + 8) * len(rows))


def _marks(place: int, row: CriteriaRow) -> Iterator[dict[str, object]]:
    for count, offset in ((row.study, -APART), (row.ours, APART)):
        if count is not None and count.n:
            low, high = clopper_pearson(count.k, count.n)
            yield {
                "y": place + (offset if row.ours is not None else 0),
                "estimate": round(100 * count.k / count.n, 2),
                "low": round(100 * low, 2),
                "high": round(100 * high, 2),
                "ours": count is row.ours,
            }
