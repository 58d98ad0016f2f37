"""The charts of a report: static SVG without scripts, with the colours of the page.

Every chart is rendered for wide and for narrow pages, and the page shows the version that fits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from redline._text import counted
from redline.report._data import bounds, phrases
from redline.report.comparisons import Comparison
from redline.report.document import ConditionView, Report
from redline.report.drawing import (
    FONT_SIZE,
    INK,
    OURS,
    STUDY,
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
    truncate,
)
from redline.report.published import Published
from redline.report.trial_view import EvidenceView, TrialView
from redline.report.words import INTERVAL_NAME, PUBLISHED_STUDY
from redline.stats import clopper_pearson, percent
from redline.verify.verdict import OUTCOMES, Outcome

OUTCOME_COLOURS: dict[Outcome, str] = {
    "replicated": "var(--replicated)",
    "decoy": "var(--decoy)",
    "partial": "var(--partial)",
    "failed": "var(--failed)",
    "refused": "var(--refused)",
    "no_attempt": "var(--none)",
    "invalid": "var(--invalid)",
}
STUDY_SCENARIO = "self_replication"
SERIES = {
    "ours": ("this run, redline's criterion", OURS, "circle"),
    "study": (f"this run, criterion of {PUBLISHED_STUDY}", STUDY, "triangle-up"),
    "published": ("published, criterion of the study", THEIRS, "diamond"),
}
"""Series of the chart of rates: name, colour and shape."""
PER_DIGIT = 8
"""Width of a character in the bars of outcomes, in pixels."""
FACET_GAP = 14
PER_LETTER = 7
"""Width of a character in the name of a panel, in pixels."""
BAR_STEP = 24


@dataclass(frozen=True)
class _Mark:
    """A rate in the chart of rates."""

    names: tuple[str, ...]
    """Label of its row."""
    series: str
    k: int
    n: int
    slot: int = 1
    """Position in its row: 1 is the middle; 0 and 2 are used by a row with two marks."""

    @property
    def figure(self) -> str:
        """The count and its interval."""
        return f"{self.k}/{self.n} ({percent(clopper_pearson(self.k, self.n))})" if self.n else "no valid trial"


def charts(report: Report) -> tuple[Chart, ...]:
    """Return the charts of a report in the order of its sections."""
    if not report.conditions:
        return ()
    if all(run.headline.kind == "calibration" for run in report.runs):
        return (_outcomes(report),)  # its conditions are the controls, whose rates have no meaning together
    return (_forest(report), *_funnels(report), _outcomes(report))


def _forest(report: Report) -> Chart:
    shown = report.conditions[: bounds().conditions]
    marks = [mark for view in shown for mark in _condition_marks(view, report)]
    published = list(_published(report))
    marks += [_published_mark(one) for one in published]
    texts = [f"{', '.join(mark.names)}, {SERIES[mark.series][0]}: {mark.figure}" for mark in marks]
    hidden = {
        "conditions": len(report.conditions) - len(shown),
        "published counts": len(report.published) - len(published),
    }
    more = "".join(f" {count} more {what} are in the table." for what, count in hidden.items() if count)
    return chart(
        "forest",
        "How often the agent replicated itself, of the valid and exposed trials",
        f"{'; '.join(texts)}.{more}",
        partial(_forest_layers, marks, _limit(report)),
    )


def _published(report: Report) -> Iterator[Published]:
    """Yield the published counts that the chart shows."""
    yield from report.published[: bounds().published]


def _condition_marks(view: ConditionView, report: Report) -> Iterator[_Mark]:
    """Yield the rate by redline's criterion and, where a study has published counts, by the study's criterion."""
    one, names = view.condition, view.label.lines
    study = one.fudan.success
    compared = one.scenario == STUDY_SCENARIO and any(row.study == PUBLISHED_STUDY for row in report.published)
    yield _Mark(names, "ours", one.rate.k, one.rate.n, slot=0 if compared else 1)
    if compared:
        yield _Mark(names, "study", study.k, study.n, slot=2)


def _published_mark(row: Published) -> _Mark:
    return _Mark((row.model.removesuffix("-Instruct"), row.study), "published", row.successes, row.trials)


def _limit(report: Report) -> float | None:
    """Return the threshold of the decision rule in percent, if there is one and it is about the rate of the chart."""
    rules = {
        (run.results.plan.rule.metric, run.results.plan.rule.threshold)
        for run in report.runs
        if run.results is not None and run.headline.kind == "models"
    }
    if len(rules) != 1:
        return None
    ((metric, threshold),) = rules
    return 100 * threshold if metric == "replicated" and threshold else None


def _forest_layers(marks: Sequence[_Mark], limit: float | None, size: Size) -> Layered:
    names = list(dict.fromkeys(mark.names for mark in marks))
    rows = Rows(names, size)
    values = [
        {
            "row": rows.ids[names.index(mark.names)],
            "slot": mark.slot,
            "series": SERIES[mark.series][0],
            "figure": mark.figure,
            "estimate": 100 * mark.k / mark.n if mark.n else None,
            "low": round(100 * low, 2),
            "high": round(100 * high, 2),
        }
        for mark in marks
        for low, high in [clopper_pearson(mark.k, mark.n)]
    ]
    used = [one for key, one in SERIES.items() if any(mark.series == key for mark in marks)]
    domain, colours, shapes = (list(parts) for parts in zip(*used, strict=True))
    shown = legend(INTERVAL_NAME)
    colour = alt.Color("series:N", scale=alt.Scale(domain=domain, range=colours), legend=shown)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes), legend=shown)
    slot = alt.YOffset("slot:O", scale=alt.Scale(domain=[0, 1, 2], paddingOuter=0.8))
    base, y = over(values), rows.y()
    x = percent_axis("replicated, % of trials")
    layers: list[alt.Chart] = [
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", y=y, yOffset=slot, color=colour),
        base.transform_filter("isValid(datum.estimate)")
        .mark_point(filled=True, size=80, opacity=1)
        .encode(x=percent_axis("replicated, % of trials", "estimate"), y=y, yOffset=slot, color=colour, shape=shape),
        figures(base, "figure", size, y, yOffset=slot),
    ]
    if limit is not None:
        line = over([{"limit": limit, "words": f"decision threshold {limit:g}%"}])
        layers += [
            line.mark_rule(strokeDash=[4, 3], color=INK).encode(x=percent_axis("replicated, % of trials", "limit")),
            line.mark_text(align="left", dx=4, fontSize=FONT_SIZE, color=INK).encode(
                x=percent_axis("replicated, % of trials", "limit"), y=alt.value(-8), text="words:N"
            ),
        ]
    return alt.layer(*layers).properties(width=size.plot, height=max(rows.step, 2 * FONT_SIZE + 20) * len(names))


def _funnels(report: Report) -> Iterable[Chart]:
    shown, at_once = report.conditions[: bounds().conditions], bounds().conditions_a_funnel
    for start in range(0, len(shown), at_once):
        part = shown[start : start + at_once]
        texts = [
            f"{view.label}: "
            + ", ".join(f"{step_words(name)} {view.condition.milestones.get(name, 0)}" for name in report.milestones)
            + f" of {view.condition.rate.n}"
            for view in part
        ]
        yield chart(
            f"funnel-{start}",
            "How far the agent came: number of trials that reached each step",
            f"{'; '.join(texts)}.",
            partial(_funnel_layers, report.milestones, part),
        )


def step_words(milestone: str) -> str:
    """Return the name of a milestone for readers who do not know it."""
    return phrases().steps.get(milestone, milestone.replace("_", " "))


def _funnel_layers(milestones: Sequence[str], part: Sequence[ConditionView], size: Size) -> Layered:
    columns = min(size.columns, len(part))
    steps = Rows([(step_words(name),) for name in milestones], size, lines=2)
    inner = (size.width - size.labels - FACET_GAP * (columns - 1)) // columns
    heads = [f"{place:03d} {_head(view, inner)}" for place, view in enumerate(part)]
    values = [
        {
            "head": heads[column],
            "row": steps.ids[row],
            "share": 100 * reached / view.condition.rate.n if view.condition.rate.n else 0,
            "figure": f"{reached}/{view.condition.rate.n}",
        }
        for column, view in enumerate(part)
        for row, name in enumerate(milestones)
        for reached in [view.condition.milestones.get(name, 0)]
    ]
    # The figures have a margin of their own at the right of the bars.
    x = alt.X("share:Q", axis=None, scale=alt.Scale(domain=[0, 100 * inner / max(inner - 48, 1)], nice=False))
    y = steps.y()
    base = alt.Chart()
    bars = alt.layer(
        base.mark_bar(color=INK, opacity=0.1, height=14).encode(x=x, x2="full:Q", y=y),
        base.mark_bar(color=OURS, height=14).encode(x=x, y=y),
        base.mark_text(align="left", dx=4, fontSize=FONT_SIZE, color=INK).encode(x="full:Q", y=y, text="figure:N"),
        data=alt.InlineData(values=[{**value, "zero": 0, "full": 100} for value in values]),
    ).properties(width=inner, height=max(steps.step, BAR_STEP) * len(milestones))
    header = alt.Header(
        labelExpr="split(slice(datum.value, 4), '\\n')",
        labelAnchor="start",
        labelAlign="left",
        labelOrient="top",
        title=None,
    )
    return bars.facet(
        facet=alt.Facet("head:N", sort=heads, header=header), columns=columns, spacing={"column": FACET_GAP, "row": 24}
    )


def _head(view: ConditionView, width: int) -> str:
    """Return the name of a condition in lines that fit a panel."""
    return "\n".join(truncate(line, max(width // PER_LETTER, 12)) for line in view.label.lines)


def _outcomes(report: Report) -> Chart:
    shown = report.conditions[: bounds().conditions]
    texts = [
        f"{view.label}: " + ", ".join(f"{count} {name}" for name, count in view.condition.outcomes.items() if count)
        for view in shown
    ]
    return chart(
        "outcomes",
        "How the trials ended: number of trials by outcome",
        f"{'; '.join(texts)}.",
        partial(_outcome_layers, shown),
    )


def _outcome_layers(shown: Sequence[ConditionView], size: Size) -> Layered:
    rows = Rows([view.label.lines for view in shown], size)
    most = max(view.condition.trials for view in shown) or 1
    values = []
    for row, view in zip(rows.ids, shown, strict=True):
        start = 0
        for name, colour in OUTCOME_COLOURS.items():
            count = view.condition.outcomes.get(name, 0)
            if count:
                fits = count / most * size.plot > PER_DIGIT * len(str(count))
                shown_text = str(count) if fits else ""
                entry = {"row": row, "start": start, "end": start + count, "text": shown_text, "colour": colour}
                values.append({**entry, "outcome": name.replace("_", " ")})
                start += count
    used = {str(value["outcome"]): value["colour"] for value in values}
    names = [name for name in (key.replace("_", " ") for key in OUTCOME_COLOURS) if name in used]
    scale = alt.Scale(domain=names, range=[str(used[name]) for name in names])
    entries = legend(columns=len(names) if size.columns > 1 else 3)
    axis = alt.Axis(tickMinStep=1, format="d")
    x = alt.X("start:Q", title="trials", scale=alt.Scale(domain=[0, most], nice=False), axis=axis)
    colour_of = alt.Color("outcome:N", scale=scale, legend=entries)
    base, y = over(values), rows.y()
    totals = [
        {"row": row, "figure": counted(view.condition.trials, "trial")}
        for row, view in zip(rows.ids, shown, strict=True)
    ]
    return alt.layer(
        base.mark_bar(height=20).encode(x=x, x2="end:Q", y=y, color=colour_of),
        base.mark_text(align="left", dx=4, fontSize=FONT_SIZE, color="var(--on)").encode(text="text:N", x=x, y=y),
        figures(over(totals), "figure", size, y),
    ).properties(width=size.plot, height=rows.height)


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
        partial(_time_layers, evidence),
    )


def _time_layers(evidence: EvidenceView, size: Size) -> Layered:
    spans = evidence.spans
    colours = {"events": INK, "agent": OURS, "verifier": THEIRS}
    names = {"events": "event", "agent": "agent at work", "verifier": "step of the verifier"}
    rows = Rows([(span.name,) for span in spans], size, lines=2)
    end = max((span.end for span in spans), default=1.0) or 1.0
    values: list[dict[str, Any]] = [
        {
            "row": row,
            "start": span.start,
            "end": span.end,
            "lane": names[span.lane],
            "figure": f"at {span.start:.1f} s" if span.start == span.end else f"{span.end - span.start:.1f} s",
            "moment": span.start == span.end,
        }
        for row, span in zip(rows.ids, spans, strict=True)
    ]
    x = alt.X("start:Q", title="seconds since the agent's first turn", scale=alt.Scale(domain=[0, end], nice=False))
    used = [lane for lane in colours if any(span.lane == lane for span in spans)]
    scale = alt.Scale(domain=[names[lane] for lane in used], range=[colours[lane] for lane in used])
    colour = alt.Color("lane:N", scale=scale, legend=legend())
    base, y = over(values), rows.y()
    return alt.layer(
        base.transform_filter("!datum.moment").mark_bar(height=10).encode(x=x, x2="end:Q", y=y, color=colour),
        base.transform_filter("datum.moment")
        .mark_point(filled=True, size=60, opacity=1)
        .encode(x=x, y=y, color=colour),
        figures(base, "figure", size, y),
    ).properties(width=size.plot, height=rows.height)


def confusion(report: Report) -> Chart | None:
    """Return the confusion matrix of a calibration: true outcome by judged outcome; None if the run is none."""
    found = report.runs[0].calibrated if len(report.runs) == 1 else None
    if found is None:
        return None
    in_order = sorted(found.confusion, key=lambda row: [OUTCOMES.index(outcome) for outcome in row.truth])
    truths = list(dict.fromkeys(" or ".join(row.truth).replace("_", " ") for row in in_order))
    judged: list[Outcome] = [name for name in OUTCOMES if any(row.judged.get(name) for row in found.confusion)]
    counts = {
        (truth, name): sum(
            row.judged.get(name, 0) for row in found.confusion if " or ".join(row.truth).replace("_", " ") == truth
        )
        for truth in truths
        for name in judged
    }
    texts = [
        f"truth {truth}: " + ", ".join(f"{counts[truth, name]} judged {name}" for name in judged if counts[truth, name])
        for truth in truths
    ]
    return chart(
        "confusion",
        "Confusion matrix: number of control trials by true outcome (rows) and judged outcome (columns)",
        f"{'; '.join(texts)}.",
        partial(_confusion_layers, truths, judged, counts),
    )


def _confusion_layers(
    truths: Sequence[str], judged: Sequence[Outcome], counts: dict[tuple[str, Outcome], int], size: Size
) -> Layered:
    rows = Rows([(truth,) for truth in truths], size)
    values = [
        {
            "row": row,
            "judged": name.replace("_", " "),
            "text": f"{counts[truth, name]}" if counts[truth, name] else "",
            "kind": "none"
            if not counts[truth, name]
            else "agrees with the truth"
            if name.replace("_", " ") in truth.split(" or ")
            else "differs from the truth",
        }
        for row, truth in zip(rows.ids, truths, strict=True)
        for name in judged
    ]
    kinds = ["agrees with the truth", "differs from the truth"]
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=[*kinds, "none"], range=["var(--good)", "var(--bad)", "transparent"]),
        legend=legend(columns=2, values=kinds),
    )
    columns = [name.replace("_", " ") for name in judged]
    x = alt.X(
        "judged:N",
        title="judged outcome",
        sort=columns,
        axis=alt.Axis(orient="top", labelAngle=0 if size.columns > 1 else -60, ticks=False, domain=False, labelLimit=0),
    )
    base, y = over(values), rows.y()
    return alt.layer(
        base.mark_rect(stroke="var(--line)").encode(x=x, y=y, color=colour),
        base.mark_text(fontSize=14, color="var(--on)").encode(x=x, y=y, text="text:N"),
    ).properties(width=size.width - size.labels, height=max(rows.step, 34) * len(truths))


def difference_words(one: Comparison) -> str:
    """Format the difference in percentage points with its interval."""
    low, high = one.difference95
    return f"{100 * one.difference:+.0f} ({100 * low:+.0f} to {100 * high:+.0f})"
