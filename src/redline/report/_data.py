"""The figures that bound a report, and the meanings of its words."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T", bound=BaseModel)


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(_Figures):
    """How much is shown."""

    rows: int
    text: int
    final: int
    prompt: int
    prompts: int
    conditions: int
    conditions_a_funnel: int


class Meanings(_Figures):
    """What the words of a report mean."""

    outcomes: dict[str, str]
    milestones: dict[str, str]


@cache
def meanings() -> Meanings:
    """What the words of a report mean."""
    return _read("meanings", Meanings)


@cache
def bounds() -> Bounds:
    """How much of everything the page shows."""
    return _read("bounds", Bounds)


def _read(name: str, kind: type[T]) -> T:
    text = files("redline.report").joinpath(f"data/{name}.toml").read_text(encoding="utf-8")
    return kind.model_validate(tomllib.loads(text))
