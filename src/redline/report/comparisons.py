"""Conditions held against each other: models side by side, arms against a baseline, one run against another."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from redline.results import Condition, TrialResult
from redline.stats import (
    Count,
    Difference,
    Pairs,
    detectable_difference,
    fisher_exact,
    holm,
    mcnemar_exact,
    newcombe,
    newcombe_paired,
)

Family = Literal["models", "arms", "runs"]


@dataclass(frozen=True)
class Numbered:
    """A condition of one of the runs that a report is about, with its number there and its trials."""

    number: int
    run: str
    condition: Condition
    trials: tuple[TrialResult, ...]

    @property
    def arm(self) -> tuple[str, str]:
        """Scenario and arm."""
        return self.condition.scenario, self.condition.arm

    @property
    def valid(self) -> dict[int, bool]:
        """Whether it replicated, by seed, of the trials that count."""
        counted = (one for one in self.trials if one.exposed and one.outcome != "invalid")
        return {one.seed: one.outcome == "replicated" for one in counted}


@dataclass(frozen=True)
class Comparison:
    """One condition against its baseline."""

    family: Family
    baseline: int
    """Number of the baseline's condition."""
    other: int
    """Number of the condition that is held against it."""
    test: Literal["Fisher", "McNemar"]
    """McNemar's exact test where the trials are paired by seed, else Fisher's."""
    baseline_count: Count
    other_count: Count
    difference: float
    """Rate of the other less that of the baseline."""
    difference95: Difference
    """Newcombe's interval of it."""
    p: float
    p_holm: float
    """Adjusted for the family."""
    detectable: float | None
    """The smallest difference from the baseline's rate that this n would show with a power of 80 %."""


def compare(conditions: Sequence[Numbered]) -> tuple[Comparison, ...]:
    """Every condition against the first that differs from it in one respect, family by family."""
    found: list[Comparison] = []
    for family in ("models", "arms", "runs"):
        theirs = [_comparison(family, *pair) for pair in _pairs(family, conditions)]
        adjusted = holm([one.p for one in theirs])
        found += (replace(one, p_holm=p) for one, p in zip(theirs, adjusted, strict=True))
    return tuple(found)


def _pairs(family: Family, conditions: Sequence[Numbered]) -> Iterator[tuple[Numbered, Numbered]]:
    baselines: dict[tuple[object, ...], Numbered] = {}
    for one in conditions:
        baseline = baselines.setdefault(_alike(family, one), one)
        if baseline is not one and baseline.valid and one.valid and _differs(family, baseline, one):
            yield baseline, one


def _alike(family: Family, one: Numbered) -> tuple[object, ...]:
    """What two conditions of a family have in common. Other runs are compared where they repeat a condition."""
    match family:
        case "models":
            return (*one.arm,)
        case "arms":
            return one.condition.scenario, one.condition.model
        case "runs":
            return *one.arm, one.condition.model


def _differs(family: Family, baseline: Numbered, one: Numbered) -> bool:
    match family:
        case "models":
            return baseline.condition.model != one.condition.model
        case "arms":
            return baseline.arm != one.arm
        case "runs":
            return baseline.run != one.run


def _comparison(family: Family, baseline: Numbered, other: Numbered) -> Comparison:
    pairs = _paired(baseline, other)
    if pairs is None:
        first, second = _count(other.valid.values()), _count(baseline.valid.values())
        test, p, bounds = "Fisher", fisher_exact(first, second), newcombe(first, second)
    else:
        first, second = pairs.first, pairs.second
        test, p, bounds = "McNemar", mcnemar_exact(pairs), newcombe_paired(pairs)
    rate = second.k / second.n
    return Comparison(
        family=family,
        baseline=baseline.number,
        other=other.number,
        test="McNemar" if test == "McNemar" else "Fisher",
        baseline_count=second,
        other_count=first,
        difference=first.k / first.n - rate,
        difference95=bounds,
        p=p,
        p_holm=p,
        detectable=detectable_difference(rate, second.n, first.n),
    )


def _paired(baseline: Numbered, other: Numbered) -> Pairs | None:
    """The trials paired by seed, the other condition first; None where the two drew other seeds.

    A pair of which one trial is invalid or was not exposed is left out.
    """
    if sorted(one.seed for one in baseline.trials) != sorted(one.seed for one in other.trials):
        return None
    ours, theirs = other.valid, baseline.valid
    cells = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    if not cells or len(set(one.seed for one in other.trials)) != len(other.trials):
        return None
    return Pairs(
        both=cells.count((True, True)),
        only_first=cells.count((True, False)),
        only_second=cells.count((False, True)),
        neither=cells.count((False, False)),
    )


def _count(held: Iterable[bool]) -> Count:
    every = list(held)
    return Count(k=sum(every), n=len(every))
