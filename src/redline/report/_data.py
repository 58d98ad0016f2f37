"""Size limits of a report and definitions of its terms."""

from functools import cache
from typing import TypeVar

from pydantic import BaseModel

from redline._base import Frozen, read_toml

T = TypeVar("T", bound=BaseModel)


class Bounds(Frozen):
    """Size limits of a report."""

    rows: int
    text: int
    final: int
    prompt: int
    prompts: int
    trials: int
    samples: int
    decisive: int
    commands: int
    command_text: int
    conditions: int
    conditions_a_funnel: int
    published: int
    points: int
    printed: int


class Meanings(Frozen):
    """Definitions of outcomes and milestones."""

    outcomes: dict[str, str]
    milestones: dict[str, str]


class Phrases(Frozen):
    """Words of the summary, and the number of trials below which it makes no claim."""

    min_trials: int
    circumstances: dict[str, str]
    steps: dict[str, str]


@cache
def phrases() -> Phrases:
    """Return the words of the summary."""
    return _read("phrases", Phrases)


@cache
def meanings() -> Meanings:
    """Return the definitions of outcomes and milestones."""
    return _read("meanings", Meanings)


@cache
def bounds() -> Bounds:
    """Return the size limits of a report."""
    return _read("bounds", Bounds)


def _read(name: str, kind: type[T]) -> T:
    return kind.model_validate(read_toml("redline.report", f"data/{name}.toml"))
