"""What a plan can tell and what it costs, before anything is run."""

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
from redline.catalog import Scalar, scenarios
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
"""Prices are in dollars per so many tokens."""


class PlannedCondition(Frozen):
    """One arm with one model, as planned."""

    name: str
    """What the decision calls the arm."""
    scenario: str
    """Its scenario."""
    factors: dict[str, Scalar]
    """Its factors that are not at their defaults."""
    model: str
    """The model."""
    trials: int
    """Trials."""
    tested: bool
    """Whether the decision is about it."""


class RuleForecast(Frozen):
    """What the decision rule says at a number of trials."""

    trials: int
    """Trials of a condition, all valid."""
    not_crossed_up_to: int | None
    """The greatest count that is `not_crossed`; null where even 0 is not."""
    crossed_from: int | None
    """The smallest count that is `crossed`; null where even all are not."""
    chances: dict[str, dict[Verdict, float]]
    """The chance of each verdict, by true rate."""


class RuleNeed(Frozen):
    """Trials that the rule needs for the smallest effect."""

    rate: float
    """The true rate."""
    verdict: Verdict
    """The verdict that is right then."""
    trials: int | None
    """The smallest number of trials with which it is said with the effect's power; null if more than is looked for."""


class FisherForecast(Frozen):
    """What a comparison of two conditions could see."""

    effect: Effect
    """The smallest effect that is to be seen."""
    trials_needed: int | None
    """The smallest number of trials an arm that is enough; null if more than is looked for."""
    power: dict[int, float]
    """The power at each number of trials that tested conditions have."""


class Cost(Frozen):
    """What the models under test would cost."""

    tokens_from: str
    """Where the tokens of a trial are from."""
    trials: dict[str, int]
    """Trials by model, controls aside."""
    input_tokens: int
    """Input tokens of a trial."""
    output_tokens: int
    """Output tokens of a trial."""
    dollars: dict[str, float | None]
    """Dollars by model; null where no price is known."""
    at_most: float | None
    """The plan's own bound."""


class WallTime(Frozen):
    """How long it would take, at the pace of an earlier run."""

    seconds_per_trial: float
    """Mean wall time of an earlier trial."""
    at_once: float
    """How many earlier trials ran at once, on average."""
    cells: int
    """Cells at once, at most."""
    seconds: float
    """All trials, without the seal at the start."""


class Forecast(Frozen):
    """What is known of a plan before it is run."""

    sha256: str
    """Hash of the plan."""
    red_line: str | None
    """The red line in words."""
    rule: str
    """The decision rule in words."""
    rule_is_default: bool
    """Whether it is redline's own."""
    conditions: tuple[PlannedCondition, ...]
    """What would run."""
    trials: int
    """Trials in all."""
    verdicts: tuple[RuleForecast, ...]
    """What the rule says, for each number of trials that tested conditions have."""
    rule_needs: tuple[RuleNeed, ...]
    """Trials that the rule needs, where the plan states a smallest effect."""
    comparison: FisherForecast | None
    """What a comparison could see, where the plan states a smallest effect."""
    cost: Cost
    """What it would cost."""
    wall_time: WallTime | None
    """How long it would take, where an earlier run tells."""


class Earlier(Frozen):
    """What an earlier run took, a trial on the average."""

    folder: str
    """Its folder."""
    input_tokens: float = Field(ge=0)
    """Input tokens, cached ones among them."""
    output_tokens: float = Field(ge=0)
    """Output tokens."""
    pace: Pace
    """How fast it went."""

    @classmethod
    def of(cls, root: Path) -> Self:
        """The means of the trials in a folder.

        Raises:
            EvidenceError: A log cannot be read.
            UsageError: There are none.
        """
        spent: dict[tuple[str, str], _Spent] = {}
        folder = RunFolder(root)
        for log in log_names(folder.files, folder.logs.name):
            check_log(folder.files, log)
            for name, one in _spent(root / log):
                spent.setdefault(name, one)  # a resumed log holds the earlier trials too
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
    """What a trial took."""

    input_tokens: int
    output_tokens: int
    span: Span


def _spent(log: Path) -> Iterator[tuple[tuple[str, str], _Spent]]:
    """What each finished trial of a log took, by its condition and id."""
    task = read_header(log).eval.task_id
    parts = {"events", "store", "attachments", "events_data", "messages"}
    for sample in read_samples(log, parts):
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
    """What is known of a completed plan before it is run.

    Args:
        plan: The plan.
        cells: Cells at once.
        like: An earlier run whose trials took what these will.
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
                factors=_said(arm),
                model=plan.label_of(spec.name, spec.args),
                trials=plan.trials_of(arm),
                tested=(arm, spec) in plan.tested,
            )


def _said(arm: Arm) -> dict[str, Scalar]:
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
    """Trials for the right verdict at each of the two rates; at the threshold itself none is right."""
    for rate in (effect.baseline, effect.alternative):
        verdict = _right_verdict(rule, rate)
        if verdict is not None:
            needed = trials_for_rule(rule, rate, verdict, effect.power)
            yield RuleNeed(rate=rate, verdict=verdict, trials=needed)


def _right_verdict(rule: DecisionRule, rate: float) -> Literal["crossed", "not_crossed"] | None:
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
        a_trial = None if price is None else (price.input * inputs + price.output * outputs) / PER_MILLION
        dollars[name] = None if a_trial is None else a_trial * count
    return Cost(
        tokens_from=f"means of the trials in {like.folder}" if like else "assumed, not measured",
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
        at_once=like.pace.at_once,
        cells=cells,
        seconds=like.pace.seconds_for(plan.planned_trials, cells),
    )
