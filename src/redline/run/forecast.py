"""Forecast of a plan before it runs: the statistical power, the cost and the duration."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from inspect_ai.log import EvalSample
from inspect_ai.model import ModelCost, ModelUsage, get_model_info
from pydantic import Field

from redline._base import Frozen
from redline._errors import UsageError
from redline.catalog import Setting, scenarios
from redline.plan import Arm, Plan, assumed_tokens
from redline.run.extract import reason_to_run_again
from redline.run.folder import RunFolder
from redline.run.pace import Pace, Span
from redline.run.stored_logs import check_log, log_names, read_header, read_samples
from redline.stats import DecisionRule, Effect
from redline.stats.decide import Verdict
from redline.stats.power import (
    chances_of_verdicts,
    counts_that_decide,
    fisher_power,
    trials_for_fisher,
    trials_for_rule,
)

PER_MILLION = 1e6
"""Prices are in USD per million tokens."""


class PlannedCondition(Frozen):
    """One arm with one model, as planned."""

    name: str
    """Name of the arm in the decision."""
    scenario: str
    """Name of the scenario."""
    factors: dict[str, Setting]
    """Factors with a setting other than the default."""
    model: str
    """Name of the model."""
    trials: int
    """Number of trials."""
    tested: bool
    """Whether the decision depends on it."""


class RuleForecast(Frozen):
    """Verdicts of the decision rule for one number of trials."""

    trials: int
    """Trials of a condition, all valid."""
    not_crossed_up_to: int | None
    """Largest count with the verdict `not_crossed`; null if even 0 does not have it."""
    crossed_from: int | None
    """Smallest count with the verdict `crossed`; null if even all trials do not have it."""
    chances: dict[str, dict[Verdict, float]]
    """Probability of each verdict, by true rate."""


class RuleNeed(Frozen):
    """Trials that the rule needs for the smallest effect."""

    rate: float
    """The true rate."""
    verdict: Verdict
    """The correct verdict for this rate."""
    trials: int | None
    """Smallest number of trials that gives this verdict with the effect's power; null above the search limit."""


class FisherForecast(Frozen):
    """Power of a comparison of two conditions."""

    effect: Effect
    """The smallest effect to detect."""
    trials_needed: int | None
    """Smallest sufficient number of trials per arm; null above the search limit."""
    power: dict[int, float]
    """Power by number of trials, for each number that a tested condition has."""


class Cost(Frozen):
    """Estimated cost of the models under test."""

    tokens_from: str
    """Source of the number of tokens per trial."""
    trials: dict[str, int]
    """Trials by model, without controls."""
    input_tokens: int
    """Input tokens per trial."""
    output_tokens: int
    """Output tokens per trial."""
    dollars: dict[str, float | None]
    """Cost in USD by model; null where no price is known."""
    at_most: float | None
    """Maximum cost that the plan sets, in USD."""


class WallTime(Frozen):
    """Estimated duration of the run, at the pace of an earlier run."""

    seconds_per_trial: float
    """Mean wall time of an earlier trial, in seconds."""
    at_once: float
    """Mean number of concurrent trials in the earlier run."""
    cells: int
    """Maximum number of concurrent cells."""
    seconds: float
    """Duration of all trials in seconds, without the seal measurement at the start."""


class Forecast(Frozen):
    """Forecast of a plan."""

    sha256: str
    """SHA-256 of the plan."""
    red_line: str | None
    """The red line in words."""
    rule: str
    """The decision rule in words."""
    rule_is_default: bool
    """Whether the rule is redline's default."""
    conditions: tuple[PlannedCondition, ...]
    """Conditions of the plan."""
    trials: int
    """Total number of trials."""
    verdicts: tuple[RuleForecast, ...]
    """Verdicts of the rule, for each number of trials that a tested condition has."""
    rule_needs: tuple[RuleNeed, ...]
    """Trials that the rule needs; empty unless the plan has a smallest effect."""
    comparison: FisherForecast | None
    """Power of a comparison; null unless the plan has a smallest effect."""
    cost: Cost
    """Estimated cost."""
    wall_time: WallTime | None
    """Estimated duration; null without an earlier run."""


class Earlier(Frozen):
    """Mean use per trial in an earlier run."""

    folder: str
    """Folder of the run."""
    input_tokens: float = Field(ge=0)
    """Input tokens, including cached ones."""
    output_tokens: float = Field(ge=0)
    """Output tokens."""
    pace: Pace
    """Pace of the run."""

    @classmethod
    def of(cls, root: Path) -> Self:
        """Compute the means of the trials in a folder.

        Raises:
            EvidenceError: A log cannot be read.
            UsageError: The folder contains no trials.
        """
        spent: dict[tuple[str, str], _Spent] = {}
        folder = RunFolder(root)
        for log in log_names(folder.files, folder.logs.name):
            check_log(folder.files, log)
            for name, one in _spent(root / log):
                spent.setdefault(name, one)  # the log of a resumed run repeats the earlier trials
        if not spent:
            raise UsageError(f"{root} holds no trials: give --like the folder of an earlier run")
        return cls(
            folder=str(root),
            input_tokens=sum(one.input_tokens for one in spent.values()) / len(spent),
            output_tokens=sum(one.output_tokens for one in spent.values()) / len(spent),
            pace=Pace.of(one.span for one in spent.values()),
        )


@dataclass(frozen=True)
class _Spent:
    """Use of one trial."""

    input_tokens: int
    output_tokens: int
    span: Span


def _spent(log: Path) -> Iterator[tuple[tuple[str, str], _Spent]]:
    """Yield the use of each finished trial in a log, by condition and ID."""
    task = read_header(log).eval.task_id
    for sample in read_samples(log):
        span = _span(sample)
        if span is not None and reason_to_run_again(sample) is None:
            usage = sample.model_usage.values()
            outputs = sum(one.output_tokens for one in usage)
            yield (task, str(sample.id)), _Spent(sum(map(_all_input, usage)), outputs, span)


def _span(sample: EvalSample) -> Span | None:
    if sample.started_at is None or sample.completed_at is None:
        return None
    return Span(datetime.fromisoformat(sample.started_at), datetime.fromisoformat(sample.completed_at))


def _all_input(usage: ModelUsage) -> int:
    return usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)


def forecast(plan: Plan, cells: int, like: Earlier | None = None) -> Forecast:
    """Compute the forecast of a completed plan.

    Args:
        plan: The plan.
        cells: Maximum number of concurrent cells.
        like: An earlier run with comparable trials.
    """
    numbers = sorted({plan.trials_of(arm) for arm, _ in plan.tested})
    effect = plan.smallest_effect
    return Forecast(
        sha256=plan.sha256,
        red_line=plan.red_line,
        rule=str(plan.rule),
        rule_is_default=plan.rule.is_default,
        conditions=tuple(_conditions(plan)),
        trials=plan.planned_trials,
        verdicts=tuple(_verdicts(plan.rule, n, effect) for n in numbers),
        rule_needs=tuple(_needs(plan.rule, effect)) if effect else (),
        comparison=_comparison(effect, numbers) if effect else None,
        cost=_cost(plan, like),
        wall_time=_wall_time(plan, cells, like) if like else None,
    )


def _conditions(plan: Plan) -> Iterator[PlannedCondition]:
    for arm in plan.arms:
        for spec in plan.models_of(arm):
            yield PlannedCondition(
                name=plan.name_of(arm),
                scenario=arm.scenario,
                factors=_non_default_factors(arm),
                model=plan.label_of(spec.name, spec.args),
                trials=plan.trials_of(arm),
                tested=(arm, spec) in plan.tested,
            )


def _non_default_factors(arm: Arm) -> dict[str, Setting]:
    factors = scenarios()[arm.scenario].factors
    return {name: value for name, value in arm.factors.items() if value != factors[name].default}


def _verdicts(rule: DecisionRule, n: int, effect: Effect | None) -> RuleForecast:
    open_from, crossed_from = counts_that_decide(rule, n)
    rates = (effect.baseline, effect.alternative) if effect else ()
    return RuleForecast(
        trials=n,
        not_crossed_up_to=open_from - 1 if open_from > 0 else None,
        crossed_from=crossed_from if crossed_from <= n else None,
        chances={f"{rate:g}": chances_of_verdicts(rule, rate, n) for rate in rates},
    )


def _needs(rule: DecisionRule, effect: Effect) -> Iterator[RuleNeed]:
    """Yield the trials needed for the correct verdict at each of the two rates; the threshold itself has none."""
    for rate in (effect.baseline, effect.alternative):
        verdict = _correct_verdict(rule, rate)
        if verdict is not None:
            needed = trials_for_rule(rule, rate, verdict, effect.power)
            yield RuleNeed(rate=rate, verdict=verdict, trials=needed)


def _correct_verdict(rule: DecisionRule, rate: float) -> Literal["crossed", "not_crossed"] | None:
    if rule.threshold is None:
        return "crossed" if rate > 0 else None
    return "crossed" if rate > rule.threshold else "not_crossed" if rate < rule.threshold else None


def _comparison(effect: Effect, numbers: Sequence[int]) -> FisherForecast:
    return FisherForecast(
        effect=effect,
        trials_needed=trials_for_fisher(effect),
        power={n: fisher_power(effect, n, n) for n in numbers},
    )


def _cost(plan: Plan, like: Earlier | None) -> Cost:
    inputs, outputs = (round(like.input_tokens), round(like.output_tokens)) if like else assumed_tokens()
    trials: Counter[str] = Counter()
    for arm in plan.arms:
        for spec in plan.models_of(arm):
            if not spec.is_control:
                trials[spec.name] += plan.trials_of(arm)
    dollars: dict[str, float | None] = {}
    for name, count in trials.items():
        price = _price(name)
        per_trial = None if price is None else (price.input * inputs + price.output * outputs) / PER_MILLION
        dollars[name] = None if per_trial is None else per_trial * count
    return Cost(
        tokens_from=f"mean of the trials in {like.folder}" if like else "assumed, not measured",
        trials=dict(trials),
        input_tokens=inputs,
        output_tokens=outputs,
        dollars=dollars,
        at_most=plan.max_cost,
    )


def _price(name: str) -> ModelCost | None:
    info = get_model_info(name)
    return None if info is None else info.cost


def _wall_time(plan: Plan, cells: int, like: Earlier) -> WallTime:
    return WallTime(
        seconds_per_trial=like.pace.seconds,
        at_once=like.pace.concurrency,
        cells=cells,
        seconds=like.pace.seconds_for(plan.planned_trials, cells),
    )
