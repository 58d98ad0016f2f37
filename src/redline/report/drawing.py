"""Common parts of all charts: two sizes, axes with labels of several lines, and the colours of the page.

Text is measured with a font that the renderer contains, and the space for labels is fixed, so that the same data give
the same bytes on every host. Labels leave room for a wider font of the reader.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, Literal

import altair as alt
import vl_convert
from markupsafe import Markup

from redline._text import clean_line
from redline.verify.evidence import LINE_LIMIT

Layered = alt.LayerChart | alt.FacetChart
INK, OURS, STUDY, THEIRS = "currentColor", "var(--ours)", "var(--study)", "var(--theirs)"
FONT = "Liberation Sans"
FONT_SIZE = 12
LINE = 15
GAP = 12
PLACE = 4
"""Digits and a separator before each label, which make labels distinct and keep their order."""

VIEW = re.compile(r'viewBox="0 0 (?P<width>[0-9.]+) (?P<height>[0-9.]+)"')
_TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": FONT_SIZE, "titleFontSize": FONT_SIZE}
STYLE = {
    "background": "transparent",
    "font": FONT,
    "aria": False,
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        **_TEXT,
        "tickColor": INK,
        "domainColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.15,
        "titleFontWeight": "normal",
    },
    "legend": {**_TEXT, "symbolSize": 90, "offset": 22},
    "header": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": FONT_SIZE,
        "labelFontWeight": "bold",
        "title": None,
        "labelLimit": 0,
    },
    "title": {"color": INK, "fontSize": FONT_SIZE, "anchor": "start"},
}
"""Vega-Lite's configuration of every chart."""

ROLES = re.compile(r' role="graphics-[a-z]+"| aria-roledescription="[^"]*"')


@dataclass(frozen=True)
class Size:
    """One of the two sizes of a chart."""

    name: str
    width: int
    """Width of the whole chart, in pixels."""
    labels: int
    """Width of the labels of rows, in pixels."""
    figures: int
    """Width of the figures after the rows, in pixels."""
    characters: int
    """Maximum number of characters in one line of a row's label."""
    columns: int
    """Number of panels next to each other."""

    @property
    def plot(self) -> int:
        """Width between labels and figures."""
        return self.width - self.labels - self.figures


WIDE = Size("wide", 940, labels=240, figures=150, characters=34, columns=3)
NARROW = Size("narrow", 350, labels=104, figures=120, characters=14, columns=1)


@dataclass(frozen=True)
class Chart:
    """A chart in two sizes, with a text alternative."""

    key: str
    title: str
    alternative: str
    svgs: tuple[tuple[str, Markup], ...]
    draw: Callable[[Size], Layered] | None = field(default=None, compare=False, repr=False)
    """Draws the chart as an Altair object in the colours of the page."""


class Rows:
    """The rows of a chart: a nominal axis with one label of several lines for each row."""

    def __init__(self, names: Iterable[Sequence[str]], size: Size, *, lines: int = 4) -> None:
        """Wrap the labels.

        Args:
            names: The parts of each row's label, each of which starts a line.
            size: Size of the chart.
            lines: Maximum number of lines of a label.
        """
        self.size = size
        wrapped = [_wrapped(parts, size.characters, lines) for parts in names]
        self.ids = [f"{place:03d} {text}" for place, text in enumerate(wrapped)]
        counts = [text.count("\n") + 1 for text in wrapped]
        self.lines = median_low(counts) if counts else 1
        self.step = LINE * max(counts, default=1) + GAP

    @property
    def height(self) -> int:
        """Height of all rows."""
        return self.step * len(self.ids)

    def y(self, field: str = "row") -> alt.Y:
        """Return the axis."""
        axis = alt.Axis(
            labelExpr=f"split(slice(datum.label, {PLACE}), '\\n')",
            labelLimit=0,
            labelAlign="left",
            labelPadding=self.size.labels - 4,
            labelLineHeight=LINE,
            labelBaseline="middle",
            # Vega centres the first line of a label on its row, so labels of several lines are moved up.
            labelOffset=-LINE * (self.lines - 1) / 2,
            minExtent=self.size.labels,
            maxExtent=self.size.labels,
            ticks=False,
            domain=False,
            grid=False,
            title=None,
        )
        return alt.Y(f"{field}:N", sort=self.ids, scale=alt.Scale(domain=self.ids, padding=0.1), axis=axis)


def _wrapped(parts: Sequence[str], characters: int, lines: int) -> str:
    found: list[str] = []
    for part in parts:
        found += textwrap.wrap(clean_line(part, LINE_LIMIT), characters, break_on_hyphens=True) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], truncate(" ".join(found[lines - 1 :]), characters)]
    # The axis label of Vega has no way to align lines with different indentation, so every line starts at the left.
    return "\n".join(found)


def percent_axis(title: str, field: str = "low") -> alt.X:
    """Return the horizontal axis of a rate in percent."""
    return alt.X(f"{field}:Q", title=title, **_percent())


def vertical_percent_axis(title: str, field: str) -> alt.Y:
    """Return the vertical axis of a rate in percent."""
    return alt.Y(f"{field}:Q", title=title, **_percent())


def _percent() -> dict[str, Any]:
    return {
        "scale": alt.Scale(domain=[0, 100], nice=False),
        "axis": alt.Axis(values=[0, 25, 50, 75, 100], labelExpr="datum.value + '%'", labelFlush=True),
    }


def legend(title: str | None = None, *, columns: int = 1, values: Sequence[str] | None = None) -> alt.Legend:
    """Return a legend above a chart.

    Args:
        title: Title of the legend.
        columns: Number of columns. Long entries need one, because the reader's font can be wider than the measured one.
        values: The entries to show; all entries if None.
    """
    return alt.Legend(
        orient="top",
        direction="horizontal" if columns > 1 else "vertical",
        columns=columns,
        columnPadding=24,
        title=title,
        titleLimit=0,
        labelLimit=0,
        titleFontWeight="normal",
        symbolOpacity=1,
        values=alt.Undefined if values is None else list(values),
    )


def over(values: Sequence[Any]) -> alt.Chart:
    """Return a chart over the data."""
    # In a tuple: Altair copies a chart at every step, with all lists and dictionaries in it.
    return alt.Chart({"values": tuple(values)})


def figures(chart: alt.Chart, field: str, size: Size, y: alt.Y, **channels: Any) -> alt.Chart:
    """Return the figures at the right of each row, from a field of its data."""
    marks: alt.Chart = chart.mark_text(align="left", fontSize=FONT_SIZE, color=INK).encode(
        x=alt.value(size.plot + 8), y=y, text=f"{field}:N", **channels
    )
    return marks


def text(chart: alt.Chart, field: str, *, align: Literal["left", "right"], dy: int) -> alt.Chart:
    """Return a text next to each mark, from a field of its data."""
    marks: alt.Chart = chart.mark_text(align=align, dy=dy, fontSize=FONT_SIZE, color=INK).encode(text=f"{field}:N")
    return marks


def chart(key: str, title: str, alternative: str, draw: Callable[[Size], Layered]) -> Chart:
    """Render a chart in both sizes with its text alternative."""
    full = clean_line(f"{title}. {alternative}", 20_000)
    return Chart(key, title, full, tuple((size.name, _svg(draw(size), full, size)) for size in (WIDE, NARROW)), draw)


def _svg(chart: Layered, alternative: str, size: Size) -> Markup:
    """Return the SVG with its text alternative instead of the library's descriptions of every mark."""
    spec = chart.to_dict(validate=False)
    # Set in the text: each method of the chart that sets a part of it copies the whole chart with its data.
    spec["config"] = STYLE
    # The library still adds roles to groups of marks, which do not help in a single image.
    svg = _widened(vl_convert.vegalite_to_svg(spec), size.width)
    head, rest = ROLES.sub("", svg).split(" ", 1)
    return Markup('{} role="img" aria-label="{}" ').format(Markup(head), alternative) + Markup(rest)


def _widened(svg: str, width: int) -> str:
    """Return the SVG with at least this width, so that a wider font than the measured one has its space."""
    found = VIEW.search(svg)
    if found is None or float(found["width"]) >= width:
        return svg
    head = svg[: svg.index(">")].replace(f'width="{found["width"]}"', f'width="{width}"', 1)
    head = head.replace(found[0], f'viewBox="0 0 {width} {found["height"]}"')
    return head + svg[svg.index(">") :]


def truncate(label: str, characters: int) -> str:
    """Shorten a label to a number of characters."""
    shown = clean_line(label, LINE_LIMIT)
    return shown if len(shown) <= characters else f"{shown[: characters - 1]}…"
