"""The charts of a report: static SVG without scripts, with the colours of the page.

Every chart is rendered for wide and for narrow pages, and the page shows the version that fits. The layout does not
measure text, so the same data give the same bytes on every host.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import altair as alt

from redline.report._data import bounds
from redline.report.comparisons import Comparison
from redline.report.document import ConditionView, Report
from redline.report.drawing import (
    INK,
    LINE,
    OURS,
    THEIRS,
    WIDE,
    Chart,
    Layered,
    Size,
    chart,
    labels,
    over,
    text,
    truncate,
)
from redline.report.published import Published
from redline.report.trial_view import EvidenceView, TrialView
from redline.report.words import condition_words
from redline.stats import percent, wilson

BAR = 7
RIGHT_PART = 0.6
OUTCOME_COLOURS = {
    "invalid": "var(--invalid)",
    "replicated": "var(--replicated)",
    "decoy": "var(--decoy)",
    "partial": "var(--partial)",
    "failed": "var(--failed)",
    "refused": "var(--refused)",
    "no_attempt": "var(--none)",
}


@dataclass(frozen=True)
class _Row:
    name: str
    detail: str
    figure: str
    estimate: float | None
    low: float
    high: float
    published: bool


def charts(report: Report) -> tuple[Chart, ...]:
    """Return the charts of a report in the order of its sections."""
    if not report.conditions:
        return ()
    return (_forest(report), *_funnels(report), _outcomes(report))


def _forest(report: Report) -> Chart:
    shown = report.conditions[: bounds().conditions]
    rows = [*map(_condition_row, shown), *(_published_row(one) for one in report.published)]
    texts = [f"{row.name}, {row.detail}: {row.figure}, 95% {percent((row.low, row.high))}" for row in rows]
    left_out = len(report.conditions) - len(shown)
    more = f" {left_out} more conditions are in the table." if left_out else ""
    return chart(
        "forest",
        "Rate of replication with 95% Wilson intervals",
        f"{'; '.join(texts)}.{more}",
        lambda size: _forest_layers(rows, size),
    )


def _condition_row(view: ConditionView) -> _Row:
    one = view.condition
    return _Row(
        _name(view),
        condition_words(one),
        f"{one.rate.k}/{one.rate.n}",
        one.rate.estimate,
        *one.rate.wilson95,
        published=False,
    )


def _published_row(row: Published) -> _Row:
    share = row.successes / row.trials
    name = f"{row.study}: {row.model.removesuffix('-Instruct')}"
    return _Row(
        name,
        "different set-up",
        f"{row.successes}/{row.trials}",
        share,
        *wilson(row.successes, row.trials),
        published=True,
    )


def _forest_layers(rows: Sequence[_Row], size: Size) -> Layered:
    values = [
        {
            "y": place,
            **size.label(row.name, row.detail),
            "figure": row.figure,
            "estimate": None if row.estimate is None else 100 * row.estimate,
            "low": round(100 * row.low, 2),
            "high": round(100 * row.high, 2),
            "published": row.published,
        }
        for place, row in enumerate(rows)
    ]
    # Labels are above their lines, so that long names need height rather than width on a phone.
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(rows) - 0.5], reverse=True, nice=False))
    x = alt.X("low:Q", title="replicated, % of valid and exposed trials", scale=alt.Scale(domain=[0, 100]))
    colour = alt.condition("datum.published", alt.value(THEIRS), alt.value(OURS))
    base = over(values)
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", y=y, color=colour),
        base.transform_filter("!datum.published && isValid(datum.estimate)")
        .mark_point(filled=True, shape="circle", size=80, opacity=1, color=OURS)
        .encode(x=alt.X("estimate:Q"), y=y),
        base.transform_filter("datum.published")
        .mark_point(filled=False, shape="diamond", size=80, strokeWidth=2, opacity=1, color=THEIRS)
        .encode(x=alt.X("estimate:Q"), y=y),
        *labels(base, size, y, dy=-12),
        text(base, "figure", align="right", dy=-12 - LINE * (size.lines - 1)).encode(x=alt.XDatum(100), y=y),
    ).properties(width=size.width, height=size.step * len(rows))


def _funnels(report: Report) -> Iterable[Chart]:
    shown, at_once = report.conditions[: bounds().conditions], bounds().conditions_a_funnel
    for start in range(0, len(shown), at_once):
        part = shown[start : start + at_once]
        texts = [
            f"#{view.number} {view.condition.model}: "
            + ", ".join(f"{name} {view.condition.milestones.get(name, 0)}" for name in report.milestones)
            + f" of {view.condition.rate.n}"
            for view in part
        ]
        yield chart(
            f"funnel-{start}",
            "Milestones: number of trials that reached each one, by condition",
            f"{'; '.join(texts)}.",
            partial(_funnel_layers, report.milestones, part),
        )


def _funnel_layers(milestones: Sequence[str], part: Sequence[ConditionView], size: Size) -> Layered:
    labels = 130 if size is WIDE else 118
    inner = size.width - labels
    # A few conditions do not fill the whole width, so that adjacent bars can be compared.
    cell = min(inner / len(part), 120)
    values = [
        {
            "y": row,
            "x": column * cell,
            "end": column * cell + max((cell - 8) * reached / view.condition.rate.n, 0) if view.condition.rate.n else 0,
            "full": column * cell + cell - 8,
            "text": f"{reached}",
        }
        for column, view in enumerate(part)
        for row, name in enumerate(milestones)
        for reached in [view.condition.milestones.get(name, 0)]
    ]
    heads = [{"x": column * cell, "text": f"#{view.number}"} for column, view in enumerate(part)]
    names = [{"y": row, "text": name.replace("_", " ")} for row, name in enumerate(milestones)]
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-1.4, len(milestones) - 0.4], reverse=True, nice=False))
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-labels, inner], nice=False, zero=False))
    base = over(values)
    head = over(heads)
    side = over(names)
    return alt.layer(
        base.mark_rule(color=INK, opacity=0.25, strokeWidth=1).encode(x=x, x2="full:Q", y=y),
        base.mark_rule(color=OURS, strokeWidth=BAR).encode(x=x, x2="end:Q", y=y),
        text(base, "text", align="left", dy=-10).encode(x=x, y=y),
        text(head, "text", align="left", dy=0).encode(x=x, y=alt.YDatum(-1.1, axis=None)),
        text(side, "text", align="left", dy=0).encode(x=alt.XDatum(-labels, axis=None), y=y),
    ).properties(width=size.width, height=28 * (len(milestones) + 1))


def _outcomes(report: Report) -> Chart:
    shown = report.conditions[: bounds().conditions]
    texts = [
        f"#{view.number} {view.condition.model}: "
        + ", ".join(f"{count} {name}" for name, count in view.condition.outcomes.items() if count)
        for view in shown
    ]
    return chart(
        "outcomes",
        "Outcomes of all trials, by condition",
        f"{'; '.join(texts)}.",
        lambda size: _outcome_layers(shown, size),
    )


def _outcome_layers(shown: Sequence[ConditionView], size: Size) -> Layered:
    most = max(view.condition.trials for view in shown) or 1
    values, named = [], []
    for place, view in enumerate(shown):
        one, start = view.condition, 0
        named.append({"y": place, **size.label(_name(view), condition_words(one))})
        for name, count in one.outcomes.items():
            if count:
                fits = count / most * size.width > 7 * len(f"{count} {name}")
                shown_text = f"{count} {name}" if fits else f"{count}"
                paint = OUTCOME_COLOURS.get(name, INK)
                values.append({"y": place, "x": start, "end": start + count, "text": shown_text, "colour": paint})
                start += count
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(shown) - 0.4], reverse=True, nice=False))
    x = alt.X("x:Q", title="trials", scale=alt.Scale(domain=[0, most], nice=False), axis=alt.Axis(tickMinStep=1))
    base = over(values)
    colour = alt.Color("colour:N", scale=None, legend=None)
    return alt.layer(
        base.mark_rule(strokeWidth=16).encode(x=x, x2="end:Q", y=y, color=colour),
        base.mark_text(align="left", dx=4, fontSize=11, color="var(--on)").encode(text="text:N", x=x, y=y),
        *labels(over(named), size, y, dy=-16),
    ).properties(width=size.width, height=(size.step + 4) * len(shown))


def time_line(trial: TrialView, evidence: EvidenceView) -> Chart:
    """Return the timeline of one trial."""
    spans = evidence.spans
    texts = [
        f"{span.name} at {span.start:.1f} s"
        if span.start == span.end
        else f"{span.name} {span.start:.1f}–{span.end:.1f} s"
        for span in spans
    ]
    return chart(
        "time-line",
        f"Timeline of trial {trial.result.id}",
        f"{'; '.join(texts)}.",
        lambda size: _time_layers(evidence, size),
    )


def _time_layers(evidence: EvidenceView, size: Size) -> Layered:
    spans = evidence.spans
    colours = {"agent": OURS, "verifier": THEIRS, "events": INK}
    end = max((span.end for span in spans), default=1.0) or 1.0
    values = [
        {
            "y": place,
            "x": span.start,
            "end": span.end,
            "colour": colours[span.lane],
            "label": truncate(
                f"{span.name}, {span.start:.1f} s"
                if span.start == span.end
                else f"{span.name}, {span.end - span.start:.1f} s",
                size.characters,
            ),
            "moment": span.start == span.end,
            # In the right part of the chart, a label ends at its bar instead of starting there.
            "side": "right" if span.start > RIGHT_PART * end else "left",
        }
        for place, span in enumerate(spans)
    ]
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(spans) - 0.4], reverse=True, nice=False))
    x = alt.X("x:Q", title="seconds since the agent's first turn", scale=alt.Scale(domain=[0, end], nice=False))
    base = over(values)
    colour = alt.Color("colour:N", scale=None, legend=None)
    return alt.layer(
        base.transform_filter("!datum.moment").mark_rule(strokeWidth=BAR).encode(x=x, x2="end:Q", y=y, color=colour),
        base.transform_filter("datum.moment")
        .mark_point(filled=True, size=50, opacity=1)
        .encode(x=x, y=y, color=colour),
        text(base.transform_filter("datum.side == 'left'"), "label", align="left", dy=-10).encode(x=x, y=y),
        text(base.transform_filter("datum.side == 'right'"), "label", align="right", dy=-10).encode(
            x=alt.X("end:Q"), y=y
        ),
    ).properties(width=size.width, height=26 * len(spans))


def _name(view: ConditionView) -> str:
    return f"#{view.number} {view.condition.model}"


def difference_words(one: Comparison) -> str:
    """Format the difference in percentage points with its interval."""
    low, high = one.difference95
    return f"{100 * one.difference:+.0f} ({100 * low:+.0f} to {100 * high:+.0f})"
