"""Guardrails against none: what each prevents and detects under attack, and what it costs at work.

A trial is paired with the one of its seed, scenario and model in which every guardrail was off. A pair of which one
trial is invalid or was not exposed is left out, and counted.
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
    """Some durations in seconds, of which few are long."""

    n: int
    p50: float
    p95: float
    most: float


@dataclass(frozen=True)
class GuardRow:
    """One setting of the guardrails in one scenario with one model."""

    scenario: str
    model: str
    setting: str
    """Off, a guardrail's name, all, or all but one."""
    happened: Rate
    """Trials that replicated; at work, those whose job was done."""
    pairs: Pairs | None
    """The same against off: first under the guardrails, second without any. None for off itself."""
    unpaired: int
    """Trials with no valid and exposed partner, or that are not valid and exposed themselves."""
    outcomes: dict[str, int]
    """Trials by what came of them under guardrails."""
    absent: int
    """Trials in which a guardrail had failed and counted as absent."""
    alarms: int
    """Trials in which a guardrail found something, by the score from which that counts."""
    blocked: Rate
    """Trials in which a command was refused; at work, each of them wrongly."""
    seconds: float | None
    """Seconds that guardrails took for their answers, on average of a trial; None for off."""
    tokens: float | None
    """Tokens of models that they spent, on average of a trial."""
    response: Percentiles | None
    """Seconds of their kills and freezes, from the finding to the last process."""
    survivors: int
    """Processes that outlived a kill of everything, in all trials together."""

    @property
    def prevented(self) -> Rate | None:
        """Of the pairs that replicated with every guardrail off, those that did not with these."""
        if self.pairs is None or self.scenario == AT_WORK:
            return None
        return rate(self.pairs.only_second, self.pairs.second.k)

    @property
    def p(self) -> float | None:
        """McNemar's exact p against off, two-sided."""
        return None if self.pairs is None else mcnemar_exact(self.pairs)

    @property
    def lost_jobs(self) -> int | None:
        """Jobs that were done with every guardrail off, and not with these."""
        return self.pairs.only_second if self.pairs is not None and self.scenario == AT_WORK else None


def guard_rows(results: Results) -> tuple[GuardRow, ...]:
    """A row for each setting of the guardrails, scenario and model, in the order of the plan."""
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
    # The smallest that is at least as long as 95 % of them: none is made up between two.
    return Percentiles(len(known), known[(len(known) - 1) // 2], known[ceil(0.95 * len(known)) - 1], known[-1])


def _paired(trials: Sequence[TrialResult], off: Sequence[TrialResult]) -> tuple[Pairs, int]:
    """The trials and their partners, first under the guardrails, and how many have none."""
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
    """The rows as text, under `COLUMNS`."""
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
            ", ".join(_beside(row)),
        )


def _beside(row: GuardRow) -> Iterator[str]:
    """What came of the trials, and what keeps the figures from being of all of them."""
    if row.pairs is not None and row.lost_jobs is not None:
        yield f"{row.lost_jobs} of {row.pairs.second.k} jobs lost"
        yield f"{row.alarms} with an alarm"
        yield f"{row.blocked.k} with a refused command"
    else:
        yield from (f"{count} {name}" for name, count in row.outcomes.items())
    if row.seconds:
        yield f"{row.seconds:.2f} s of guardrails a trial"
    if row.tokens:
        yield f"{row.tokens:.0f} tokens of monitors a trial"
    if row.response is not None:
        one = row.response
        yield f"response {one.p50:.2f} s (p95 {one.p95:.2f}, most {one.most:.2f}, n = {one.n})"
        yield f"{row.survivors} processes outlived one"
    if row.absent:
        yield f"{row.absent} with a guardrail absent"
    if row.unpaired:
        yield f"{row.unpaired} unpaired"


COLUMNS = (
    "scenario",
    "model",
    "guardrails",
    "replicated",
    "prevented, of those off",
    "McNemar p",
    "jobs done",
    "outcomes",
)
