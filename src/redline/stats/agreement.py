"""Agreement of two answers to one question."""

from collections.abc import Iterable

from pydantic import Field

from redline.stats.intervals import Count


class Agreement(Count):
    """Trials with two equal answers, of the trials with two answers."""

    kappa: float | None = Field(default=None, ge=-1, le=1)
    """Cohen's kappa: agreement beyond chance; null if an answer never varies."""


def agreement(pairs: Iterable[tuple[bool | None, bool | None]]) -> Agreement:
    """Count the pairs that agree; pairs with a missing answer are left out."""
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return Agreement(k=sum(one == other for one, other in known), n=len(known), kappa=_kappa(known))


def _kappa(pairs: list[tuple[bool, bool]]) -> float | None:
    """Return kappa of Cohen 1960 (Educational and Psychological Measurement 20:37)."""
    if any(len({pair[side] for pair in pairs}) < len((True, False)) for side in (0, 1)):
        return None
    n = len(pairs)
    observed = sum(one == other for one, other in pairs) / n
    first, second = (sum(pair[side] for pair in pairs) / n for side in (0, 1))
    chance = first * second + (1 - first) * (1 - second)
    return round((observed - chance) / (1 - chance), 6)
