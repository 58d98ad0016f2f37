"""Charts of guardrails: safety and usefulness, detection, and lead time."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import altair as alt

from redline.report._data import bounds
from redline.report.detectors import DetectorRow
from redline.report.document import Report
from redline.report.drawing import (
    INK,
    OURS,
    THEIRS,
    Chart,
    Layered,
    Rows,
    Size,
    chart,
    figures,
    legend,
    over,
    percent_axis,
    vertical_percent_axis,
)
from redline.report.guard_summary import GuardSummary
from redline.report.labels import short_models
from redline.report.words import INTERVAL_NAME
from redline.stats import clopper_pearson, percent

HEIGHT = 300
AXIS_ROOM = 60
"""Space for the vertical axis of a ROC curve, in pixels."""
SAFE, USEFUL = "attacks without a replica (safety)", "honest jobs done (usefulness)"
ROW = 44


def guard_charts(report: Report) -> tuple[Chart, ...]:
    """Return the charts of the guardrails, if a run has any."""
    summaries = [one for run in report.runs for one in run.guard_summaries]
    return (*_safety(summaries), *_rocs(report.detectors), *_leads(report.detectors))


def _safety(rows: Sequence[GuardSummary]) -> Iterator[Chart]:
    """Yield the chart of attacks without a replica and of completed ordinary jobs, by setting."""
    shown = rows[: bounds().conditions]
    if not shown:
        return
    several = len({row.model for row in rows}) > 1
    values: list[tuple[tuple[str, ...], str, int, int]] = []
    for row in shown:
        names = (row.setting, *([row.model] if several else []))
        values.append((names, SAFE, row.attacks.n - row.attacks.k, row.attacks.n))
        values.append((names, USEFUL, row.done.k, row.done.n))
    texts = [f"{', '.join(names)}: {series} {_figure(k, n)}" for names, series, k, n in values]
    yield chart(
        "safety",
        "Safety and usefulness of each setting of the guardrails",
        f"{'; '.join(texts)}.",
        partial(_safety_layers, values),
    )


def _figure(k: int, n: int) -> str:
    return f"{k}/{n} ({percent(clopper_pearson(k, n))})" if n else "none ran"


def _safety_layers(marks: Sequence[tuple[tuple[str, ...], str, int, int]], size: Size) -> Layered:
    names = list(dict.fromkeys(names for names, *_ in marks))
    rows = Rows(names, size)
    values = [
        {
            "row": rows.ids[names.index(name)],
            "series": series,
            "slot": 0 if series == SAFE else 1,
            "estimate": 100 * k / n,
            "low": 100 * low,
            "high": 100 * high,
            "figure": _figure(k, n),
        }
        for name, series, k, n in marks
        if n
        for low, high in [clopper_pearson(k, n)]
    ]
    shown = legend(INTERVAL_NAME)
    colour = alt.Color("series:N", scale=alt.Scale(domain=[SAFE, USEFUL], range=[OURS, THEIRS]), legend=shown)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=[SAFE, USEFUL], range=["circle", "diamond"]), legend=shown)
    slot = alt.YOffset("slot:O", scale=alt.Scale(domain=[0, 1], paddingOuter=0.4))
    base, y, words = over(values), rows.y(), "% of attacks, and % of honest jobs"
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=percent_axis(words), x2="high:Q", y=y, yOffset=slot, color=colour),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=percent_axis(words, "estimate"), y=y, yOffset=slot, color=colour, shape=shape
        ),
        figures(base, "figure", size, y, yOffset=slot),
    ).properties(width=size.plot, height=max(rows.step, ROW) * len(names))


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
    base, chance = over(curve), over([{"x": 0, "y": 0}, {"x": 100, "y": 100}])
    side = min(size.width - AXIS_ROOM, HEIGHT)
    x = percent_axis("false alarms", "x")
    vertical = vertical_percent_axis("detected", "y")
    kinds = alt.Scale(domain=["detector", "chance"], range=[OURS, INK])

    def colour(kind: str) -> alt.ColorDatum:
        return alt.ColorDatum(kind, scale=kinds, legend=legend())

    return alt.layer(
        chance.mark_line(opacity=0.4, strokeWidth=1).encode(x=x, y=vertical, color=colour("chance")),
        base.mark_line(strokeWidth=2, interpolate="linear").encode(x=x, y=vertical, color=colour("detector")),
        base.mark_point(filled=True, size=40, opacity=1).encode(x=x, y=vertical, color=colour("detector")),
    ).properties(width=side, height=side)


def _leads(rows: Iterable[DetectorRow]) -> Iterator[Chart]:
    """Yield the chart of the time between alarm and irreversible step, with the signs of the table."""
    known = [row for row in rows if row.lead_seconds is not None][: bounds().conditions]
    if not known:
        return
    models = short_models(row.model for row in known)
    marks: list[tuple[tuple[str, ...], float, float, float, str]] = []
    for row in known:
        lead = row.lead_seconds
        assert lead is not None
        named = row.guardrail if row.guardrail == row.setting else f"{row.guardrail} in {row.setting}"
        names = (named, *([models[row.model]] if len(models) > 1 else []))
        marks.append((names, lead.median, lead.min, lead.max, f"{lead.median:+.2f} s (n = {lead.n})"))
    texts = [f"{', '.join(names)}: {figure}, {low:+.2f} to {high:+.2f}" for names, _, low, high, figure in marks]
    yield chart(
        "leads",
        "Lead of the alarm before the irreversible step: median and range; a negative lead is an alarm after it",
        f"{'; '.join(texts)}.",
        partial(_lead_layers, marks),
    )


def _lead_layers(marks: Sequence[tuple[tuple[str, ...], float, float, float, str]], size: Size) -> Layered:
    rows = Rows([names for names, *_ in marks], size)
    values = [
        {"row": row, "median": median, "low": low, "high": high, "figure": figure}
        for row, (_, median, low, high, figure) in zip(rows.ids, marks, strict=True)
    ]
    ends = [*(low for _, _, low, *_ in marks), *(high for _, _, _, high, _ in marks)]
    scale = alt.Scale(domain=[min([*ends, -1.0]), max([*ends, 1.0])], nice=True)
    title = "lead, in seconds (later ← 0 → earlier)"
    x = alt.X("low:Q", title=title, scale=scale, axis=alt.Axis(format="+", tickCount=6))
    base, y = over(values), rows.y()
    return alt.layer(
        over([{"zero": 0}]).mark_rule(color=INK, strokeDash=[4, 3]).encode(x=alt.X("zero:Q", scale=scale)),
        base.mark_rule(strokeWidth=2, color=OURS).encode(x=x, x2="high:Q", y=y),
        base.mark_point(filled=True, size=80, opacity=1, color=OURS).encode(x=alt.X("median:Q", scale=scale), y=y),
        figures(base, "figure", size, y),
    ).properties(width=size.plot, height=rows.height)
