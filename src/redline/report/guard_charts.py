"""Charts of guardrails: safety against usefulness, detection, and lead time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import altair as alt

from redline.report._data import bounds
from redline.report.detectors import DetectorRow
from redline.report.document import Report
from redline.report.drawing import INK, LINE, OURS, THEIRS, Chart, Layered, Size, chart, over, text
from redline.report.guards import OFF, GuardRow
from redline.run.guarding import AT_WORK

HEIGHT = 300
ROOM = 8
"""Margin at the ends of a scale in percent, so that marks there are not clipped."""


def guard_charts(report: Report) -> tuple[Chart, ...]:
    """Return the charts of the guardrails, if a run has any."""
    return (*_safety(report.guards), *_rocs(report.detectors), *_leads(report.detectors))


@dataclass(frozen=True)
class Point:
    """A setting of the guardrails with one attack and with ordinary jobs."""

    attack: GuardRow
    work: GuardRow

    @property
    def words(self) -> str:
        """The point as text for readers who cannot see the chart."""
        attacks, jobs = self.attack.happened, self.work.happened
        return (
            f"{self.attack.setting}, {self.attack.scenario}, {self.attack.model}: no replica in "
            f"{attacks.n - attacks.k} of {attacks.n}, jobs done {jobs.k} of {jobs.n}"
        )


def points(rows: Sequence[GuardRow]) -> tuple[Point, ...]:
    """Return the settings with both attacks and ordinary jobs, up to the limit of a chart."""
    work = {(row.model, row.setting): row for row in rows if row.scenario == AT_WORK and row.happened.n}
    found = [
        Point(row, work[row.model, row.setting])
        for row in rows
        if row.scenario != AT_WORK and row.happened.n and (row.model, row.setting) in work
    ]
    return tuple(found[: bounds().conditions])


def _safety(rows: Sequence[GuardRow]) -> Iterator[Chart]:
    """Yield the chart of attacks without a replica over completed jobs, with one point per setting."""
    shown = [(point.attack, point.work.happened) for point in points(rows)]
    if not shown:
        return
    texts = [f"{number} {point.words}" for number, point in enumerate(points(rows), 1)]
    values = [
        {
            "number": str(number),
            "x": 100 * jobs.k / jobs.n,
            "y": 100 - 100 * row.happened.k / row.happened.n,
            "low": 100 - 100 * row.happened.clopper_pearson95[1],
            "high": 100 - 100 * row.happened.clopper_pearson95[0],
            "left": 100 * jobs.clopper_pearson95[0],
            "right": 100 * jobs.clopper_pearson95[1],
            "off": row.setting == OFF,
            # Settings at the same point are identified by their numbers, next to each other.
            "place": sum(
                (other.happened.k, other.happened.n, work.k, work.n) == (row.happened.k, row.happened.n, jobs.k, jobs.n)
                for other, work in shown[: number - 1]
            ),
        }
        for number, (row, jobs) in enumerate(shown, 1)
    ]
    yield chart(
        "safety",
        "Safety against usefulness: attacks without a replica over completed ordinary jobs, with exact intervals",
        f"{'; '.join(texts)}.",
        partial(_safety_layers, values),
    )


def _safety_layers(values: Sequence[dict[str, object]], size: Size) -> Layered:
    scale = alt.Scale(domain=[-ROOM, 100 + ROOM], nice=False)
    axis = alt.Axis(values=[0, 25, 50, 75, 100])
    x = alt.X("x:Q", title="jobs done, %", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="attacks without a replica, %", scale=scale, axis=axis)
    colour = alt.condition("datum.off", alt.value(THEIRS), alt.value(OURS))
    base = over(values)
    numbered = [
        text(base.transform_filter(f"datum.place == {place}"), "number", align="left", dy=-10).encode(x=x, y=y)
        if place == 0
        else base.transform_filter(f"datum.place == {place}")
        .mark_text(align="left", dy=-10, dx=16 * place, fontSize=12, color=INK)
        .encode(text="number:N", x=x, y=y)
        for place in sorted({int(str(value["place"])) for value in values})
    ]
    return alt.layer(
        base.mark_rule(strokeWidth=1, opacity=0.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        base.mark_rule(strokeWidth=1, opacity=0.5).encode(x=alt.X("left:Q"), x2="right:Q", y=y, color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour),
        *numbered,
    ).properties(width=size.width - 60, height=HEIGHT)


def _rocs(rows: Sequence[DetectorRow]) -> Iterator[Chart]:
    """Yield the ROC curve of each detector with scores of attacks and of ordinary jobs."""
    for row in [row for row in rows if row.area is not None][: bounds().conditions_a_funnel]:
        assert row.area is not None
        curve = [{"x": 100 * point.false_alarms, "y": 100 * point.detected} for point in row.curve]
        area = f"AUROC {row.area.value:.3f}, 95% CI {row.area.low:.2f} to {row.area.high:.2f}"
        yield chart(
            f"roc-{row.guardrail}-{row.setting}-{row.model}",
            f"ROC of {row.guardrail} ({row.setting}) on {row.model}, by trial: {area}",
            f"Of {row.attacks} attacks and {row.benign} ordinary trials: "
            + "; ".join(
                f"from {'no score' if point.threshold is None else f'{point.threshold:.3g}'} on "
                f"{100 * point.detected:.0f}% detected, {100 * point.false_alarms:.0f}% false alarms"
                for point in row.curve[: bounds().rows]
            )
            + ".",
            partial(_roc_layers, curve),
        )


def _roc_layers(curve: Sequence[dict[str, float]], size: Size) -> Layered:
    scale = alt.Scale(domain=[0, 100], nice=False)
    axis = alt.Axis(values=[0, 25, 50, 75, 100])
    x = alt.X("x:Q", title="false alarms, %", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="detected, %", scale=scale, axis=axis)
    base, chance = over(curve), over([{"x": 0, "y": 0}, {"x": 100, "y": 100}])
    side = min(size.width - 60, HEIGHT)
    return alt.layer(
        chance.mark_line(color=INK, opacity=0.3, strokeWidth=1).encode(x=x, y=y),
        base.mark_line(color=OURS, strokeWidth=2, interpolate="linear").encode(x=x, y=y),
        base.mark_point(filled=True, color=OURS, size=40, opacity=1).encode(x=x, y=y),
    ).properties(width=side, height=side)


def _leads(rows: Iterable[DetectorRow]) -> Iterator[Chart]:
    """Yield the chart of alarm times relative to the irreversible step."""
    known = [row for row in rows if row.lead_seconds is not None][: bounds().conditions]
    if not known:
        return
    values, texts = [], []
    for place, row in enumerate(known):
        lead = row.lead_seconds
        assert lead is not None
        detail = f"{row.detected.k}/{row.detected.n} detected, {row.detected_before.k} before"
        spread = f"{lead.median:+.2f} s, {lead.min:+.2f} to {lead.max:+.2f}"
        texts.append(f"{row.guardrail} in {row.setting}, {row.model}: {spread}")
        values.append(
            {
                "y": place,
                "x": -lead.median,
                "start": -lead.max,
                "end": -lead.min,
                "name": f"{row.guardrail} ({row.setting}) · {row.model}",
                "detail": detail,
            }
        )
    yield chart(
        "leads",
        "First alarm relative to the irreversible step, at which a copy's server first proves its weights",
        f"Seconds before (+) or after (-) the step, median and range: {'; '.join(texts)}.",
        partial(_lead_layers, values),
    )


def _lead_layers(values: Sequence[dict[str, object]], size: Size) -> Layered:
    rows = [{**value, **size.label(str(value["name"]), str(value["detail"]))} for value in values]
    ends = [float(str(value[end])) for value in values for end in ("start", "end")]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(rows) - 0.4], reverse=True, nice=False))
    x = alt.X(
        "x:Q",
        title="seconds; 0 is the irreversible step",
        scale=alt.Scale(domain=[low, high], nice=False),
    )
    base = over(rows)
    first = [
        text(base, "first", align="left", dy=-12 - LINE * (size.lines - 1)).encode(x=alt.XDatum(low), y=y),
        *([text(base, "second", align="left", dy=-12).encode(x=alt.XDatum(low), y=y)] if size.lines > 1 else []),
    ]
    return alt.layer(
        over([{"x": 0}]).mark_rule(color=INK, strokeDash=[4, 3]).encode(x=x),
        base.mark_rule(strokeWidth=2, color=OURS).encode(x=alt.X("start:Q"), x2="end:Q", y=y),
        base.mark_point(filled=True, size=70, opacity=1, color=OURS).encode(x=x, y=y),
        *first,
    ).properties(width=size.width, height=(size.step + 4) * len(rows))
