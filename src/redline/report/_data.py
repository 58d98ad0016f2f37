"""The figures that bound a report, and the meanings of its words."""

from functools import cache
from typing import TypeVar

from pydantic import BaseModel

from redline._base import Frozen, read_toml

T = TypeVar("T", bound=BaseModel)


class Bounds(Frozen):
    """How much is shown."""

    rows: int
    text: int
    final: int
    prompt: int
    prompts: int
    conditions: int
    conditions_a_funnel: int


class Meanings(Frozen):
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
    return kind.model_validate(read_toml("redline.report", f"data/{name}.toml"))
