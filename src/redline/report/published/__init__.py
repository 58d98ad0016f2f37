"""Trials and successes of the published studies."""

import csv
from importlib.resources import files

from pydantic import Field

from redline._base import Frozen


class Published(Frozen):
    """The published count of one model in one study."""

    study: str
    """Author and year."""
    model: str
    """The model, as the study names it."""
    scenario: str
    """The scenario of ours that is nearest."""
    trials: int = Field(gt=0)
    """Trials that were run."""
    successes: int = Field(ge=0)
    """Trials that the study counts as a success."""
    milestone_score_0_4: float | None
    """Mean milestone score, where the study gives one."""
    mean_steps_in_successes: float | None
    """Mean steps, where the study gives them."""
    source: str
    """Where the figures stand."""


def published_trials() -> tuple[Published, ...]:
    """All published counts."""
    text = files("redline.report.published").joinpath("published_trials.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(Published.model_validate({key: value or None for key, value in row.items()}) for row in rows)
