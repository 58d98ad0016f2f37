"""Compare conditions in families that each ask one question.

- `models`: do models differ, in the same arm without guardrails?
- `arms`: does one factor make a difference, for one scenario and model without guardrails?
- `guardrails`: does a guardrail prevent copies, in the attacks of one scenario with one model?
- `jobs`: does a guardrail harm ordinary work, over all jobs with one model?
- `runs`: do runs of the same arm and model differ?

Two compared conditions differ in one respect only. Ordinary jobs are never compared with attacks, and only as pools: a
single job has too few trials. Each family and question is adjusted by Holm's method on its own.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from redline.guardrails import NONE
from redline.results import Condition, TrialResult
from redline.run.guarding import AT_WORK, FACTOR, JOB
from redline.stats import Count, Difference, Pairs, fisher_exact, holm, mcnemar_exact, newcombe, newcombe_paired
from redline.stats.sensitivity import ALPHA, detectable_in_pairs, detectable_unpaired

Family = Literal["models", "arms", "guardrails", "jobs", "runs"]
FAMILIES: tuple[Family, ...] = ("models", "arms", "guardrails", "jobs", "runs")
Finding = Literal["differs", "none_found", "not_detectable"]

DONE = "job_done"
"""Measure of an ordinary job: whether it was done."""


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
    def setting(self) -> str:
        """The setting of the guardrails."""
        return str(self.condition.factors.get(FACTOR, NONE))

    @property
    def is_work(self) -> bool:
        """Whether the condition is an ordinary job."""
        return self.condition.scenario == AT_WORK

    def other_factors(self, *without: str) -> tuple[tuple[str, Hashable], ...]:
        """Return the settings of all factors except those named."""
        factors = self.condition.factors
        return tuple((name, factors[name]) for name in sorted(factors) if name not in without)


@dataclass(frozen=True)
class Comparison:
    """The comparison of one condition, or of a pool of ordinary jobs, with its baseline."""

    family: Family
    question: str
    """What the comparison and those adjusted together with it ask about, such as a scenario and a model."""
    baseline: int
    """Number of the baseline's condition; the first one of a pool."""
    other: int
    """Number of the condition compared with the baseline; the first one of a pool."""
    baseline_label: str
    """What distinguishes the baseline."""
    other_label: str
    """What distinguishes the other side."""
    test: Literal["Fisher", "McNemar"]
    """McNemar's exact test if the trials are paired by seed, Fisher's exact test otherwise."""
    baseline_count: Count
    """Replicated trials of the baseline; in `jobs`, jobs done."""
    other_count: Count
    """Replicated trials of the other side; in `jobs`, jobs done."""
    difference: float
    """Rate of the condition minus the rate of the baseline."""
    difference95: Difference
    """Newcombe's interval of the difference."""
    p: float
    p_holm: float
    """p, adjusted by Holm's method within the family and question."""
    detectable: float | None
    """The smallest difference from the baseline's rate that these trials detect with a power of 80%, at the level that
    the adjustment leaves to the smallest p; None if they detect none."""
    compared: int = 1
    """Number of comparisons that were adjusted together."""

    @property
    def finding(self) -> Finding:
        """Whether a difference was found; if not, whether one of any size could have been expected to be found."""
        if self.p_holm <= ALPHA:
            return "differs"
        return "not_detectable" if self.detectable is None else "none_found"


@dataclass(frozen=True)
class _Side:
    """One side of a comparison: a condition or a pool, with what happened in each valid, exposed trial."""

    number: int
    label: str
    planned: tuple[Hashable, ...]
    """Identity of every trial for pairing."""
    happened: Mapping[Hashable, bool]

    @property
    def count(self) -> Count:
        return Count(k=sum(self.happened.values()), n=len(self.happened))


@dataclass(frozen=True)
class _Pair:
    family: Family
    question: str
    baseline: _Side
    other: _Side


def compare(conditions: Sequence[Numbered]) -> tuple[Comparison, ...]:
    """Return the comparisons of all families, each adjusted within its family and question."""
    found: list[Comparison] = []
    for family in FAMILIES:
        groups: dict[str, list[_Pair]] = {}
        for pair in _pairs(family, conditions):
            if pair.baseline.happened and pair.other.happened:
                groups.setdefault(pair.question if family in ("guardrails", "jobs") else "", []).append(pair)
        for pairs in groups.values():
            made = [_comparison(pair, ALPHA / len(pairs)) for pair in pairs]
            adjusted = holm([one.p for one in made])
            found += (replace(one, p_holm=p, compared=len(made)) for one, p in zip(made, adjusted, strict=True))
    return tuple(found)


def _pairs(family: Family, conditions: Sequence[Numbered]) -> Iterator[_Pair]:
    attacks = [one for one in conditions if not one.is_work]
    match family:
        case "models":
            yield from _model_pairs([one for one in attacks if one.setting == NONE])
        case "arms":
            yield from _arm_pairs([one for one in attacks if one.setting == NONE])
        case "guardrails":
            yield from _guard_pairs(attacks)
        case "jobs":
            yield from _job_pairs([one for one in conditions if one.is_work])
        case "runs":
            yield from _run_pairs(attacks)


def _model_pairs(conditions: Sequence[Numbered]) -> Iterator[_Pair]:
    """Yield each model with the first model of its arm, in the same run if it is there."""
    arms: dict[tuple[str, str], list[Numbered]] = {}
    for one in conditions:
        arms.setdefault(one.arm, []).append(one)
    for members in arms.values():
        baselines = [one for one in members if one.condition.model == members[0].condition.model]
        for one in members:
            if one.condition.model != members[0].condition.model:
                own = next((baseline for baseline in baselines if baseline.run == one.run), members[0])
                yield _pair("models", _arm_words(one), own, one, own.condition.model, one.condition.model)


def _arm_pairs(conditions: Sequence[Numbered]) -> Iterator[_Pair]:
    """Yield each arm with the first earlier one of its run, scenario and model that differs in one factor."""
    for place, one in enumerate(conditions):
        for baseline in conditions[:place]:
            names = _differing(baseline, one)
            same = baseline.run == one.run and baseline.condition.model == one.condition.model
            if same and len(names) == 1:
                labels = [f"{names[0]}={side.condition.factors.get(names[0])}" for side in (baseline, one)]
                yield _pair("arms", f"{one.condition.scenario}, {one.condition.model}", baseline, one, *labels)
                break


def _differing(baseline: Numbered, one: Numbered) -> list[str]:
    """Return the names of the factors in which two arms of a scenario differ; none for arms of different scenarios."""
    if baseline.condition.scenario != one.condition.scenario:
        return []
    first, second = baseline.condition.factors, one.condition.factors
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def _guard_pairs(attacks: Sequence[Numbered]) -> Iterator[_Pair]:
    """Yield each setting of the guardrails with the arm in which they are off, in the same run if it is there."""
    for one in attacks:
        if one.setting == NONE:
            continue
        off = [
            other
            for other in attacks
            if other.setting == NONE
            and _differing(other, one) == [FACTOR]
            and other.condition.model == one.condition.model
        ]
        baseline = next((other for other in off if other.run == one.run), off[0] if off else None)
        if baseline is not None:
            others = ", ".join(f"{name}={value}" for name, value in _unusual(one, attacks))
            question = ", ".join(filter(None, (one.condition.scenario, others, one.condition.model)))
            yield _pair("guardrails", question, baseline, one, "off", one.setting)


def _unusual(one: Numbered, attacks: Sequence[Numbered]) -> list[tuple[str, Hashable]]:
    """Return the factors other than the guardrails that vary among the arms of a scenario."""
    theirs = [other for other in attacks if other.condition.scenario == one.condition.scenario]
    return [
        (name, value)
        for name, value in one.other_factors(FACTOR)
        if any(other.condition.factors.get(name) != value for other in theirs)
    ]


def _job_pairs(jobs: Sequence[Numbered]) -> Iterator[_Pair]:
    """Yield the pool of all jobs under each setting of the guardrails with the pool in which they are off."""
    pools: dict[tuple[Hashable, ...], dict[str, list[Numbered]]] = {}
    for one in jobs:
        key = (one.run, one.condition.model, one.other_factors(FACTOR, JOB))
        pools.setdefault(key, {}).setdefault(one.setting, []).append(one)
    for settings in pools.values():
        off = settings.get(NONE)
        for setting, members in settings.items():
            if off is None or setting == NONE:
                continue
            # A job that ran on one side only would make the pools differ in two respects.
            shared = {one.condition.factors.get(JOB) for one in off} & {
                one.condition.factors.get(JOB) for one in members
            }
            sides = [
                _pool([one for one in side if one.condition.factors.get(JOB) in shared], label)
                for side, label in ((off, "off"), (members, setting))
            ]
            if shared:
                yield _Pair(
                    "jobs",
                    f"{len(shared)} ordinary {'job' if len(shared) == 1 else 'jobs'}, {members[0].condition.model}",
                    *sides,
                )


def _pool(jobs: Sequence[Numbered], label: str) -> _Side:
    trials = [trial for one in jobs for trial in one.trials]
    return _Side(
        jobs[0].number,
        label,
        tuple((trial.seed, trial.factors.get(JOB)) for trial in trials),
        {(trial.seed, trial.factors.get(JOB)): bool(trial.measures.get(DONE)) for trial in trials if _counts(trial)},
    )


def _run_pairs(attacks: Sequence[Numbered]) -> Iterator[_Pair]:
    """Yield each condition with the first one of the same arm and model in an earlier run."""
    baselines: dict[tuple[Hashable, ...], Numbered] = {}
    for one in attacks:
        baseline = baselines.setdefault((*one.arm, one.condition.model), one)
        if baseline.run != one.run:
            yield _pair("runs", f"{_arm_words(one)}, {one.condition.model}", baseline, one, baseline.run, one.run)


def _arm_words(one: Numbered) -> str:
    return ", ".join(filter(None, one.arm))


def _pair(family: Family, question: str, baseline: Numbered, other: Numbered, *labels: str) -> _Pair:
    first, second = (_side(one, label) for one, label in zip((baseline, other), labels, strict=True))
    return _Pair(family, question, first, second)


def _side(one: Numbered, label: str) -> _Side:
    return _Side(
        one.number,
        label,
        tuple(trial.seed for trial in one.trials),
        {trial.seed: trial.outcome == "replicated" for trial in one.trials if _counts(trial)},
    )


def _counts(trial: TrialResult) -> bool:
    return trial.exposed and trial.outcome != "invalid"


def _comparison(pair: _Pair, alpha: float) -> Comparison:
    """Return a comparison that is not adjusted yet."""
    pairs = _paired(pair.baseline, pair.other)
    test: Literal["Fisher", "McNemar"]
    if pairs is None:
        first, second = pair.other.count, pair.baseline.count
        test, p, bounds = "Fisher", fisher_exact(first, second), newcombe(first, second)
        detectable = detectable_unpaired(second.k / second.n, second.n, first.n, alpha)
    else:
        first, second = pairs.first, pairs.second
        test, p, bounds = "McNemar", mcnemar_exact(pairs), newcombe_paired(pairs)
        detectable = detectable_in_pairs(second.k / second.n, pairs.n, alpha)
    return Comparison(
        family=pair.family,
        question=pair.question,
        baseline=pair.baseline.number,
        other=pair.other.number,
        baseline_label=pair.baseline.label,
        other_label=pair.other.label,
        test=test,
        baseline_count=second,
        other_count=first,
        difference=first.k / first.n - second.k / second.n,
        difference95=bounds,
        p=p,
        p_holm=p,
        detectable=detectable,
    )


def _paired(baseline: _Side, other: _Side) -> Pairs | None:
    """Return the trials paired by identity, the other side first; None if the identities differ.

    Pairs with an invalid or unexposed trial are excluded.
    """
    if len(set(other.planned)) != len(other.planned) or set(baseline.planned) != set(other.planned):
        return None
    if len(baseline.planned) != len(other.planned):
        return None
    return pairs_of((other.happened[one], baseline.happened[one]) for one in other.happened if one in baseline.happened)


def pairs_of(cells: Iterable[tuple[bool, bool]]) -> Pairs | None:
    """Return the counts of pairs; None if there is none."""
    found = list(cells)
    if not found:
        return None
    return Pairs(
        both=found.count((True, True)),
        only_first=found.count((True, False)),
        only_second=found.count((False, True)),
        neither=found.count((False, False)),
    )


def finding_words(one: Comparison) -> str:
    """Return what a comparison shows: "not detectable" does not mean "no difference"."""
    match one.finding:
        case "differs":
            return "differs"
        case "not_detectable":
            return "not detectable at this n"
        case "none_found":
            assert one.detectable is not None
            return f"no difference found; {100 * one.detectable:.0f} points are detectable"
