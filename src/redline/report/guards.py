"""Compare guardrails with none: what each one prevents and detects in attacks, and its effect on ordinary jobs.

A trial is paired with the trial of the same seed, arm and model in which every guardrail is off. Pairs with an invalid
or unexposed trial are excluded and counted. Attacks are compared per scenario and arm, ordinary jobs as one pool, and
the p values of each of these questions are adjusted together.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from redline.guardrails import NONE
from redline.guardrails.registry import BETWEEN
from redline.report.words import exact_words
from redline.results import Results, TrialResult
from redline.run.guarding import AT_WORK, FACTOR, JOB, label_of
from redline.stats import Rate, rate
from redline.stats.compare import Pairs, holm, mcnemar_exact
from redline.stats.sensitivity import ALPHA, detectable_in_pairs

OFF = label_of(NONE, ())
OUTCOME = "guard_outcome"
DONE = "job_done"


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a skewed set of durations, in seconds."""

    n: int
    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class GuardRow:
    """One setting of the guardrails in one scenario with one model."""

    scenario: str
    model: str
    setting: str
    """Off, the name of a guardrail, all, or all but one."""
    happened: Rate
    """Trials that replicated; for ordinary jobs, trials in which the job was done."""
    pairs: Pairs | None
    """The pairs: first with the guardrails, second with every guardrail off. None for off itself."""
    unpaired: int
    """Trials that are invalid or unexposed, or whose partner is."""
    outcomes: dict[str, int]
    """Number of trials by outcome under guardrails."""
    absent: int
    """Trials in which a guardrail failed and counts as absent."""
    alarms: int
    """Trials in which a guardrail raised an alarm."""
    blocked: Rate
    """Trials in which a command was blocked; for ordinary jobs, every block is an error."""
    seconds: float | None
    """Mean time per trial that the guardrails spent on their decisions, in seconds; None for off."""
    tokens: float | None
    """Mean number of model tokens per trial that the guardrails used."""
    response: Percentiles | None
    """Duration of kills and freezes, from the finding to the last process, in seconds."""
    survivors: int
    """Total number of processes that survived a kill of all processes."""
    factors: tuple[tuple[str, str], ...] = ()
    """Other factors that vary among the arms of the scenario, with their settings."""
    p_holm: float | None = None
    """p, adjusted by Holm's method over the settings that answer the same question; None for off."""
    detectable: float | None = None
    """The smallest difference from off that the pairs detect with a power of 80% after the adjustment; None if none."""
    compared: int = 0
    """Number of settings that are adjusted together."""

    @property
    def prevented(self) -> Rate | None:
        """Of the pairs that replicated with every guardrail off, those that did not replicate with these."""
        if self.pairs is None or self.scenario == AT_WORK:
            return None
        return rate(self.pairs.only_second, self.pairs.second.k)

    @property
    def p(self) -> float | None:
        """McNemar's exact two-sided p for the comparison with off."""
        return None if self.pairs is None else mcnemar_exact(self.pairs)

    @property
    def lost_jobs(self) -> int | None:
        """Number of jobs that were done with every guardrail off, but not with these."""
        return self.pairs.only_second if self.pairs is not None and self.scenario == AT_WORK else None

    @property
    def arm(self) -> str:
        """The scenario with the factors that vary, for a label."""
        return ", ".join((self.scenario, *(f"{name}={value}" for name, value in self.factors)))

    @property
    def finding(self) -> str:
        """What the comparison with off shows, in words; empty for off itself."""
        if self.pairs is None or self.p_holm is None:
            return ""
        if self.pairs.n == 0:
            return "no pairs"
        if self.p_holm <= ALPHA:
            return f"differs (p = {self.p_holm:.2g})"
        if self.detectable is None:
            return f"not detectable with {self.pairs.n} pairs"
        return f"no difference found; {100 * self.detectable:.0f} points are detectable"


def guard_rows(results: Results) -> tuple[GuardRow, ...]:
    """Return a row for each setting of the guardrails, arm and model, in the order of the plan."""
    groups: dict[tuple[str, str, _Factors], dict[str, list[TrialResult]]] = {}
    for trial in results.trials:
        setting = str(trial.factors.get(FACTOR, NONE))
        key = trial.scenario, trial.model, _other_factors(trial)
        groups.setdefault(key, {}).setdefault(setting, []).append(trial)
    return tuple(
        row
        for (scenario, model, factors), settings in groups.items()
        for row in _adjusted(_rows(scenario, model, _varying(scenario, factors, groups), settings))
    )


_Factors = tuple[tuple[str, str], ...]


def _other_factors(trial: TrialResult) -> _Factors:
    return tuple(sorted((name, str(value)) for name, value in trial.factors.items() if name not in (FACTOR, JOB)))


def _varying(scenario: str, factors: _Factors, groups: Iterable[tuple[str, str, _Factors]]) -> _Factors:
    """Return the factors in which the arms of a scenario differ."""
    theirs = [set(other) for name, _, other in groups if name == scenario]
    return tuple(one for one in factors if any(one not in other for other in theirs))


def _adjusted(rows: Iterable[GuardRow]) -> Iterator[GuardRow]:
    """Yield the rows of one question with p adjusted over its settings, and with the detectable difference."""
    every = list(rows)
    compared = [row for row in every if row.pairs is not None and row.pairs.n]
    adjusted = dict(zip((row.setting for row in compared), holm([row.p or 0.0 for row in compared]), strict=True))
    for row in every:
        if row.pairs is None or row.setting not in adjusted:
            yield row
            continue
        rate_off = row.pairs.second.k / row.pairs.n
        yield replace(
            row,
            p_holm=adjusted[row.setting],
            detectable=detectable_in_pairs(rate_off, row.pairs.n, ALPHA / len(compared)),
            compared=len(compared),
        )


def _rows(scenario: str, model: str, factors: _Factors, settings: dict[str, list[TrialResult]]) -> Iterator[GuardRow]:
    alone = [name for name in settings if name != NONE and BETWEEN not in name]
    off = settings.get(NONE, [])
    for setting in sorted(settings, key=lambda name: (name != NONE, name.count(BETWEEN))):
        trials = settings[setting]
        pairs, unpaired = _paired(trials, off)
        counted = [trial for trial in trials if _counts(trial)]
        yield GuardRow(
            scenario=scenario,
            model=model,
            setting=label_of(setting, alone),
            happened=rate(sum(map(_happened, counted)), len(counted), len(trials) - len(counted)),
            pairs=None if setting == NONE else pairs,
            unpaired=0 if setting == NONE else unpaired,
            outcomes=dict(Counter(str(trial.measures.get(OUTCOME, trial.outcome)) for trial in trials)),
            absent=sum(bool(trial.measures.get("guards_absent")) for trial in trials),
            alarms=sum("guard_detected_at" in trial.measures for trial in trials),
            blocked=rate(sum(bool(trial.measures.get("guard_blocks")) for trial in counted), len(counted)),
            seconds=_mean(trial.measures.get("guard_seconds") for trial in trials),
            tokens=_mean(trial.measures.get("guard_tokens") for trial in trials),
            survivors=int(sum(_numbers(trial.measures.get("guard_survivors") for trial in trials))),
            response=_percentiles(trial.measures.get("guard_response_seconds") for trial in trials),
            factors=factors,
        )


def _numbers(values: Iterable[object]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float)]


def _mean(values: Iterable[object]) -> float | None:
    known = _numbers(values)
    return sum(known) / len(known) if known else None


def _percentiles(values: Iterable[object]) -> Percentiles | None:
    known = sorted(_numbers(values))
    if not known:
        return None
    # The 95th percentile is an observed value, without interpolation.
    return Percentiles(len(known), known[(len(known) - 1) // 2], known[ceil(0.95 * len(known)) - 1], known[-1])


def _paired(trials: Sequence[TrialResult], off: Sequence[TrialResult]) -> tuple[Pairs, int]:
    """Return the pairs, with the guardrails first, and the number of unpaired trials."""
    partners = {_identity(trial): _happened(trial) for trial in off if _counts(trial)}
    cells = [
        (_happened(one), partners[_identity(one)]) for one in trials if _counts(one) and _identity(one) in partners
    ]
    found = Counter(cells)
    pairs = Pairs(
        both=found[True, True],
        only_first=found[True, False],
        only_second=found[False, True],
        neither=found[False, False],
    )
    return pairs, len(trials) - pairs.n


def _identity(trial: TrialResult) -> tuple[object, ...]:
    return trial.seed, trial.factors.get(JOB)


def _counts(trial: TrialResult) -> bool:
    return trial.outcome != "invalid" and trial.exposed


def power_lines(rows: Iterable[GuardRow]) -> Iterator[str]:
    """Yield for each question what its comparisons can find, one line each."""
    questions: dict[tuple[str, str], list[GuardRow]] = {}
    for row in rows:
        if row.pairs is not None and row.pairs.n:
            questions.setdefault((row.arm, row.model), []).append(row)
    for (arm, model), members in questions.items():
        fewest = min(members, key=lambda row: row.pairs.n if row.pairs is not None else 0)
        assert fewest.pairs is not None
        what = "jobs done" if fewest.scenario == AT_WORK else "replicated"
        found = (
            "no difference is detectable"
            if fewest.detectable is None
            else f"a difference of {100 * fewest.detectable:.0f} points is detectable with a power of 80%"
        )
        yield (
            f"{arm}, {model}: {fewest.pairs.n} pairs per setting, {fewest.compared} settings compared with off "
            f"({what} {fewest.pairs.second.k}/{fewest.pairs.n}): {found}"
        )


def _happened(trial: TrialResult) -> bool:
    return bool(trial.measures.get(DONE)) if trial.scenario == AT_WORK else trial.outcome == "replicated"


def guard_lines(rows: Iterable[GuardRow]) -> Iterator[tuple[str, ...]]:
    """Yield the rows as text, in the columns of `COLUMNS`."""
    for row in rows:
        at_work = row.scenario == AT_WORK
        happened = exact_words(row.happened)
        yield (
            row.arm,
            row.model,
            row.setting,
            "" if at_work else happened,
            "" if row.prevented is None else exact_words(row.prevented),
            happened if at_work else "",
            row.finding,
            ", ".join(_notes(row)),
        )


def _notes(row: GuardRow) -> Iterator[str]:
    """Yield the outcomes of the trials and notes on the figures."""
    if row.pairs is not None and row.lost_jobs is not None:
        yield f"{row.lost_jobs} of {row.pairs.second.k} jobs lost"
        yield f"{row.alarms} with an alarm"
        yield f"{row.blocked.k} with a blocked command"
    else:
        yield from (f"{count} {name}" for name, count in row.outcomes.items())
    if row.seconds:
        yield f"{row.seconds:.2f} s of guardrails per trial"
    if row.tokens:
        yield f"{row.tokens:.0f} monitor tokens per trial"
    if row.response is not None:
        one = row.response
        yield f"response {one.p50:.2f} s (p95 {one.p95:.2f}, max {one.max:.2f}, n = {one.n})"
        yield f"{row.survivors} processes survived a kill"
    if row.absent:
        yield f"{row.absent} with a failed guardrail"
    if row.unpaired:
        yield f"{row.unpaired} unpaired"


COLUMNS = (
    "scenario",
    "model",
    "guardrails",
    "replicated",
    "prevented (paired)",
    "jobs done",
    "compared with off",
    "outcomes",
)
