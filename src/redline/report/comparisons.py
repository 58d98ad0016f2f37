"""Compare conditions: models with each other, arms with a baseline, runs with each other."""

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
    """A condition of one of the reported runs, with its number and its trials."""

    number: int
    run: str
    condition: Condition
    trials: tuple[TrialResult, ...]

    @property
    def arm(self) -> tuple[str, str]:
        """The scenario and the arm."""
        return self.condition.scenario, self.condition.arm

    @property
    def valid(self) -> dict[int, bool]:
        """Whether each valid, exposed trial replicated, by seed."""
        counted = (one for one in self.trials if one.exposed and one.outcome != "invalid")
        return {one.seed: one.outcome == "replicated" for one in counted}


@dataclass(frozen=True)
class Comparison:
    """The comparison of one condition with its baseline."""

    family: Family
    baseline: int
    """Number of the baseline's condition."""
    other: int
    """Number of the condition compared with the baseline."""
    test: Literal["Fisher", "McNemar"]
    """McNemar's exact test if the trials are paired by seed, Fisher's exact test otherwise."""
    baseline_count: Count
    other_count: Count
    difference: float
    """Rate of the condition minus the rate of the baseline."""
    difference95: Difference
    """Newcombe's interval of the difference."""
    p: float
    p_holm: float
    """p, adjusted by Holm's method within the family."""
    detectable: float | None
    """The smallest difference from the baseline's rate that these n detect with a power of 80%."""


def compare(conditions: Sequence[Numbered]) -> tuple[Comparison, ...]:
    """Compare every condition with the first one that differs from it in one respect, by family."""
    found: list[Comparison] = []
    for family in ("models", "arms", "runs"):
        theirs = [_comparison(family, *pair) for pair in _pairs(family, conditions)]
        adjusted = holm([one.p for one in theirs])
        found += (replace(one, p_holm=p) for one, p in zip(theirs, adjusted, strict=True))
    return tuple(found)


def _pairs(family: Family, conditions: Sequence[Numbered]) -> Iterator[tuple[Numbered, Numbered]]:
    baselines: dict[tuple[object, ...], Numbered] = {}
    for one in conditions:
        baseline = baselines.setdefault(_family_key(family, one), one)
        if baseline is not one and baseline.valid and one.valid and _differs(family, baseline, one):
            yield baseline, one


def _family_key(family: Family, one: Numbered) -> tuple[object, ...]:
    """Return what two compared conditions of a family have in common."""
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
    """Return the trials paired by seed, the other condition first; None if the seeds differ.

    Pairs with an invalid or unexposed trial are excluded.
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
