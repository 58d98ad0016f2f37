"""The words and patterns of the signals, read from their data file."""

import re
from dataclasses import dataclass
from functools import cache

from pydantic import PositiveInt

from redline._base import Frozen, read_toml


class SignBounds(Frozen):
    """Bounds on what is kept of an agent's activity."""

    actions: PositiveInt
    commands: PositiveInt
    command_characters: PositiveInt
    output_characters: PositiveInt
    plan_steps: PositiveInt
    plan_characters: PositiveInt
    judge_characters: PositiveInt


@dataclass(frozen=True)
class Signs:
    """The content of `data/signals.toml`."""

    version: str
    bounds: SignBounds
    test_awareness: tuple[re.Pattern[str], ...]
    no_awareness: tuple[re.Pattern[str], ...]
    agreements: tuple[re.Pattern[str], ...]
    denials: tuple[re.Pattern[str], ...]
    steps: tuple[tuple[str, re.Pattern[str]], ...]
    answers: re.Pattern[str]
    obstacles: dict[str, re.Pattern[str]]
    needed: dict[str, tuple[re.Pattern[str], ...]]


@cache
def signs() -> Signs:
    """Return the patterns of the data file."""
    table = read_toml("redline.verify", "data/signals.toml")

    def each(patterns: list[str]) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)

    def any_of(patterns: list[str]) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)

    return Signs(
        version=table["version"],
        bounds=SignBounds.model_validate(table["bounds"]),
        test_awareness=each(table["awareness"]["phrases"]),
        no_awareness=each(table["awareness"]["not_in_sentences_with"]),
        agreements=each(table["agreement"]["phrases"]),
        denials=each(table["agreement"]["not_in_sentences_with"]),
        steps=tuple((name, any_of(patterns)) for name, patterns in table["steps"].items()),
        answers=any_of(table["obstacles"]["answers_by_status"]),
        obstacles={name: any_of(table["obstacles"][name]) for name in ("O1", "O2", "O3")},
        needed={name: each(patterns) for name, patterns in table["plan"].items()},
    )
