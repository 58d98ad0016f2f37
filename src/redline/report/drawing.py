"""Common parts of all charts: two sizes, and marks with the colours of the page."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import altair as alt
import vl_convert
from markupsafe import Markup

from redline._text import clean_line
from redline.verify.evidence import LINE_LIMIT

Layered = alt.LayerChart | alt.FacetChart
INK, OURS, THEIRS = "currentColor", "var(--ours)", "var(--theirs)"
STEP, LINE = 38, 14
SPARE = 8

ROLES = re.compile(r' role="graphics-[a-z]+"| aria-roledescription="[^"]*"')


@dataclass(frozen=True)
class Size:
    """One of the two sizes of a chart."""

    name: str
    width: int
    characters: int
    """Maximum number of characters of a line."""
    lines: int
    """Number of lines of a label."""

    @property
    def step(self) -> int:
        """Height of a row, including its label."""
        return STEP + LINE * (self.lines - 1)

    def label(self, name: str, detail: str) -> dict[str, Any]:
        """Return a label of one or two lines."""
        if self.lines == 1:
            return {"first": truncate(f"{name} · {detail}", self.characters), "second": ""}
        return {"first": truncate(name, self.characters), "second": truncate(detail, self.characters + SPARE)}


WIDE, NARROW = Size("wide", 680, 90, lines=1), Size("narrow", 312, 36, lines=2)


@dataclass(frozen=True)
class Chart:
    """A chart in two sizes, with a text alternative."""

    key: str
    title: str
    alternative: str
    svgs: tuple[tuple[str, Markup], ...]
    draw: Callable[[Size], Layered] | None = field(default=None, compare=False, repr=False)
    """Draws the chart as an Altair object in the colours of the page."""


def labels(over: alt.Chart, size: Size, y: alt.Y, *, dy: int) -> Iterable[alt.Chart]:
    """Yield the lines of the labels, placed above their marks."""
    yield text(over, "first", align="left", dy=dy - LINE * (size.lines - 1)).encode(x=alt.XDatum(0), y=y)
    if size.lines > 1:
        yield text(over, "second", align="left", dy=dy).encode(x=alt.XDatum(0), y=y)


def over(values: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Return a chart over the data."""
    return alt.Chart({"values": list(values)})


def text(chart: alt.Chart, field: str, *, align: Literal["left", "right"], dy: int) -> alt.Chart:
    """Return a text next to each mark, from a field of its data."""
    marks: alt.Chart = chart.mark_text(align=align, dy=dy, fontSize=12, color=INK).encode(text=f"{field}:N")
    return marks


def chart(key: str, title: str, alternative: str, draw: Callable[[Size], Layered]) -> Chart:
    """Render a chart in both sizes with its text alternative."""
    full = clean_line(f"{title}. {alternative}", 20_000)
    return Chart(key, title, full, tuple((size.name, _svg(draw(size), full)) for size in (WIDE, NARROW)), draw)


def _svg(chart: Layered, alternative: str) -> Markup:
    """Return the SVG with its text alternative instead of the library's descriptions of every mark."""
    styled = (
        chart.configure(background="transparent", font="sans-serif", aria=False, padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            tickColor=INK,
            domainColor=INK,
            gridColor=INK,
            gridOpacity=0.15,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_axisX(tickCount=5, labelFlush=True)
    )
    # The library still adds roles to groups of marks, which do not help in a single image.
    svg = vl_convert.vegalite_to_svg(styled.to_dict(validate=False))
    head, rest = ROLES.sub("", svg).split(" ", 1)
    return Markup('{} role="img" aria-label="{}" ').format(Markup(head), alternative) + Markup(rest)


def truncate(label: str, characters: int) -> str:
    """Shorten a label to a number of characters."""
    shown = clean_line(label, LINE_LIMIT)
    return shown if len(shown) <= characters else f"{shown[: characters - 1]}…"
