"""Trials and successes reported by published studies."""

import csv
from importlib.resources import files

from pydantic import Field

from redline._base import Frozen


class Published(Frozen):
    """The published count of one model in one study."""

    study: str
    """Author and year."""
    model: str
    """Name of the model in the study."""
    scenario: str
    """The most similar scenario of redline."""
    trials: int = Field(gt=0)
    """Trials that were run."""
    successes: int = Field(ge=0)
    """Trials that the study counts as successes."""
    milestone_score_0_4: float | None
    """Mean milestone score, if the study reports it."""
    mean_steps_in_successes: float | None
    """Mean number of steps, if the study reports it."""
    source: str
    """Location of the figures in the study."""


def published_trials() -> tuple[Published, ...]:
    """Return all published counts."""
    text = files("redline.report.published").joinpath("published_trials.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(Published.model_validate({key: value or None for key, value in row.items()}) for row in rows)
