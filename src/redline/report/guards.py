"""Compare guardrails with none: what each one prevents and detects in attacks, and its effect on ordinary jobs.

A trial is paired with the trial of the same seed, scenario and model in which every guardrail is off. Pairs with an
invalid or unexposed trial are excluded and counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from redline.guardrails import NONE
from redline.guardrails.registry import BETWEEN
from redline.report.words import exact_words
from redline.results import Results, TrialResult
from redline.run.guarding import AT_WORK, FACTOR, JOB, label_of
from redline.stats import Rate, rate
from redline.stats.compare import Pairs, mcnemar_exact

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


def guard_rows(results: Results) -> tuple[GuardRow, ...]:
    """Return a row for each setting of the guardrails, scenario and model, in the order of the plan."""
    groups: dict[tuple[str, str], dict[str, list[TrialResult]]] = {}
    for trial in results.trials:
        setting = str(trial.factors.get(FACTOR, NONE))
        groups.setdefault((trial.scenario, trial.model), {}).setdefault(setting, []).append(trial)
    return tuple(row for key, settings in groups.items() for row in _rows(*key, settings))


def _rows(scenario: str, model: str, settings: dict[str, list[TrialResult]]) -> Iterator[GuardRow]:
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


def _happened(trial: TrialResult) -> bool:
    return bool(trial.measures.get(DONE)) if trial.scenario == AT_WORK else trial.outcome == "replicated"


def guard_lines(rows: Iterable[GuardRow]) -> Iterator[tuple[str, ...]]:
    """Yield the rows as text, in the columns of `COLUMNS`."""
    for row in rows:
        at_work = row.scenario == AT_WORK
        happened = exact_words(row.happened)
        yield (
            row.scenario,
            row.model,
            row.setting,
            "" if at_work else happened,
            "" if row.prevented is None else exact_words(row.prevented),
            "" if row.p is None else f"{row.p:.2g}",
            happened if at_work else "",
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
    "McNemar p",
    "jobs done",
    "outcomes",
)
