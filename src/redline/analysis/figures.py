"""Charts of a report as Altair objects for a notebook, in the colours of the report on a light page."""

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from redline.report import Report

if TYPE_CHECKING:
    import altair as alt

COLOUR = re.compile(r"(--[a-z-]+):\s*(#[0-9a-fA-F]{3,8})")


def figures(report: Report) -> "dict[str, alt.LayerChart]":
    """Return the charts of a report by key, each with its title."""
    import altair as alt

    from redline.report.charts import charts
    from redline.report.drawing import WIDE

    colours = _colours()
    drawn = {}
    for one in charts(report):
        if one.draw is None:
            continue
        # A notebook lacks the page's style sheet, so every value that is one of its variables becomes its colour.
        text = json.dumps(one.draw(WIDE).to_dict(validate=False))
        for variable, colour in colours.items():
            text = text.replace(f'"{variable}"', f'"{colour}"')
        drawn[one.key] = alt.LayerChart.from_dict({**json.loads(text), "title": one.title}, validate=False)
    return drawn


def _colours() -> dict[str, str]:
    """Return the colours of the light theme, which comes first in the style sheet, by the values that charts use."""
    style = files("redline.report").joinpath("templates/_style.css").read_text(encoding="utf-8")
    found = dict(reversed(COLOUR.findall(style)))
    return {f"var({name})": colour for name, colour in found.items()} | {"currentColor": found["--ink"]}
