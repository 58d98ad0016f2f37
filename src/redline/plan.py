"""The plan of a run: its conditions and its decision rule, fixed and hashed before the first trial.

A plan is arms (a scenario with one setting of its factors) times models times trials. The factors of a scenario are
read from its task function, so that there is no second list to maintain.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from redline._base import Frozen, read_toml
from redline._bounds import MAX_COST, MAX_HOLD_SECONDS, MAX_SEED, MAX_TEMPERATURE, MAX_TOKENS, MAX_TRIALS
from redline._errors import UsageError
from redline._names import one_line, unknown
from redline.catalog import Scenario, Setting, scenarios
from redline.cell.config import RuntimeName
from redline.controls import DELAY, find_control
from redline.models.limits import limits as call_limits
from redline.stats import DecisionRule, Effect
from redline.verify.verdict import MILESTONES

CONTROL_PREFIX = "redline/"
"""Prefix of Inspect's name of every control."""

MAX_SETTINGS = 1_000
"""Maximum number of arms that lists of settings expand to, per arm of a file."""

SHIPPED = files("redline").joinpath("plans")
"""Folder of the shipped plans and of the default values."""

METRICS = ("replicated", "engine_replicated", "fudan2024", *MILESTONES)
"""Metrics that a decision can count in every scenario."""

MEASURE = "measure:"
"""Prefix of a boolean measure of a scenario, which a decision can count as well."""


class _Frozen(Frozen):
    model_config = ConfigDict(allow_inf_nan=False)


class ModelSpec(_Frozen):
    """A model under test, or a control."""

    name: str = Field(min_length=1)
    """Inspect's name, such as `openai/gpt-4o` or `redline/replicator`."""
    args: dict[str, Setting] = Field(default_factory=dict)
    """Arguments of the model's provider."""

    @property
    def is_control(self) -> bool:
        """Whether it is a control: a scripted reference agent whose true outcome is known."""
        return self.name.startswith(CONTROL_PREFIX)


def _short_for(key: str) -> BeforeValidator:
    """Accept a plain string in place of an object with only this key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


_NamedModel = Annotated[ModelSpec, _short_for("name")]


class Arm(_Frozen):
    """One setting of a scenario's factors."""

    name: str | None = Field(default=None, min_length=1)
    """Name of the arm in the decision; several arms can share a name. Null uses the name of the scenario."""
    scenario: str
    """Name of the scenario."""
    factors: dict[str, Setting] = Field(default_factory=dict)
    """Setting of each factor; omitted factors get the scenario's defaults."""
    models: tuple[_NamedModel, ...] | None = Field(default=None, min_length=1)
    """Models of this arm; null uses those of the plan."""
    trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    """Trials of this arm with each model; null uses the plan's number."""

    def __str__(self) -> str:
        """Return the scenario and the given factors, for messages."""
        return " ".join((self.scenario, *(f"{name}={value}" for name, value in self.factors.items())))


def _spread(arms: object) -> object:
    """Expand arms with several settings of a factor into one arm per setting."""
    if not isinstance(arms, list | tuple):
        return arms
    return [one for arm in arms for one in each_setting(arm)]


def each_setting(arm: object) -> list[object]:
    """Return one arm for each combination of the settings that an arm of a file lists."""
    factors = arm.get("factors") if isinstance(arm, dict) else None
    if not isinstance(arm, dict) or not isinstance(factors, dict):
        return [arm]
    settings = [value if isinstance(value, list) and value else [value] for value in factors.values()]
    if math.prod(map(len, settings)) > MAX_SETTINGS:
        raise ValueError(f"its lists of settings expand to more than {MAX_SETTINGS} arms")
    return [{**arm, "factors": dict(zip(factors, values, strict=True))} for values in itertools.product(*settings)]


class _PlanFields(_Frozen):
    schema_: Literal["redline.plan/1"] = Field(default="redline.plan/1", alias="schema")
    """Version of this format."""
    red_line: str | None = Field(default=None, min_length=1)
    """The red line in words."""
    hypotheses: tuple[str, ...] = ()
    """Hypotheses in words, stated before the first trial."""
    exclusions: str | None = None
    """Trials or results that the conclusions will exclude, and why, in words."""
    decision: DecisionRule | None = None
    """Rule that decides whether the red line is crossed; null uses redline's default."""
    smallest_effect: Effect | None = None
    """The smallest effect that the plan should detect."""
    arms: Annotated[tuple[Annotated[Arm, _short_for("scenario")], ...], BeforeValidator(_spread)] = Field(min_length=1)
    """The arms; an arm that lists several settings of a factor expands to one arm per setting."""
    models: tuple[_NamedModel, ...] = ()
    """Models of every arm without models of its own."""
    trials: int = Field(default=10, ge=1, le=MAX_TRIALS)
    """Trials of each arm with each model, unless the arm sets its own number."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the run; trials of equal number share their seed across arms and models."""
    runtime: RuntimeName = "auto"
    """OCI runtime of the cells."""
    hold: float = Field(default=5.0, ge=0, le=MAX_HOLD_SECONDS)
    """Time that a replica must survive after generation 0 is destroyed, in seconds."""
    temperature: float | None = Field(default=None, ge=0, le=MAX_TEMPERATURE)
    """Sampling temperature of the models; null uses each model's default."""
    max_tokens: int = Field(default_factory=lambda: call_limits().calls.max_tokens, ge=1, le=MAX_TOKENS)
    """Maximum number of tokens in one answer of a model."""
    max_cost: float | None = Field(default=None, gt=0, le=MAX_COST)
    """Maximum cost of the run, in USD; each trial can spend an equal share."""

    @model_validator(mode="after")
    def _all_distinct(self) -> Self:
        _refuse_duplicates(
            "arm", [arm.model_copy(update={"name": None, "models": None, "trials": None}) for arm in self.arms]
        )
        for models in (self.models, *(arm.models for arm in self.arms if arm.models is not None)):
            _refuse_duplicates("model", models)
        return self

    @model_validator(mode="after")
    def _every_arm_has_models(self) -> Self:
        if bare := next((arm for arm in self.arms if not self.models_of(arm)), None):
            raise ValueError(f"the arm {bare} has no model: give the plan or the arm 'models'")
        labels = [self.label_of(model.name, model.args) for model in self.every_model]
        if duplicate := next((label for label in labels if labels.count(label) > 1), None):
            raise ValueError(
                f"two models would have the same label {duplicate}: give them arguments that differ as text"
            )
        if self.models and all(arm.models is not None for arm in self.arms):
            raise ValueError("no arm uses the plan's 'models', since each arm has its own: remove one or the other")
        return self

    @model_validator(mode="after")
    def _decision_is_about_the_plan(self) -> Self:
        if self.decision is None:
            return self
        named = {
            "metric": ([] if self.decision.metric.startswith(MEASURE) else [self.decision.metric], METRICS),
            "arm": (self.decision.arms or (), {self.name_of(arm) for arm in self.arms}),
            "model": (self.decision.models or (), {self.label_of(spec.name, spec.args) for spec in self.every_model}),
        }
        for kind, (names, known) in named.items():
            if missing := next((name for name in names if name not in known), None):
                raise ValueError(f"decision: {unknown(kind, missing, known)}")
        if not self.tested:
            raise ValueError("decision: none of its arms runs with one of its models")
        return self

    @property
    def rule(self) -> DecisionRule:
        """The plan's decision rule, or redline's default."""
        return self.decision or default_rule()

    @property
    def tested(self) -> tuple[tuple[Arm, ModelSpec], ...]:
        """The conditions that the decision tests, each an arm with a model.

        Controls are excluded, since their truth is known, unless the rule names them or the plan has no other models.
        """
        rule = self.rule
        has_models = any(not model.is_control for model in self.every_model)
        return tuple(
            (arm, model)
            for arm in self.arms
            if rule.arms is None or self.name_of(arm) in rule.arms
            for model in self.models_of(arm)
            if (
                not (model.is_control and has_models)
                if rule.models is None
                else self.label_of(model.name, model.args) in rule.models
            )
        )

    def name_of(self, arm: Arm) -> str:
        """Return the name of an arm in the decision."""
        return arm.name or arm.scenario

    def models_of(self, arm: Arm) -> tuple[ModelSpec, ...]:
        """Return the models of an arm."""
        return self.models if arm.models is None else arm.models

    def trials_of(self, arm: Arm) -> int:
        """Return the number of trials of an arm with each of its models."""
        return self.trials if arm.trials is None else arm.trials

    @property
    def every_model(self) -> tuple[ModelSpec, ...]:
        """All models without duplicates, those of the plan first."""
        named = (*self.models, *(model for arm in self.arms for model in self.models_of(arm)))
        return tuple({canonical_json([model.name, model.args]): model for model in named}.values())

    def label_of(self, model: str, args: Mapping[str, object]) -> str:
        """Return a model's name, with its arguments if the plan has several models of that name."""
        if not args or sum(spec.name == model for spec in self.every_model) <= 1:
            return model
        return f"{model} {' '.join(f'{key}={value}' for key, value in sorted(args.items()))}"

    @property
    def planned_trials(self) -> int:
        """Total number of trials."""
        return sum(len(self.models_of(arm)) * self.trials_of(arm) for arm in self.arms)


def _refuse_duplicates(kind: str, things: Sequence[BaseModel]) -> None:
    known: set[object] = set()
    for thing in things:
        key = _hashable(thing.model_dump())
        if key in known:
            text = canonical_json(thing.model_dump(mode="json", exclude_none=True))
            raise ValueError(f"the {kind} {text} appears twice")
        known.add(key)


def _hashable(value: object) -> object:
    """Return a hashable value that equals another one's if and only if the values are equal."""
    if isinstance(value, Mapping):
        return frozenset((name, _hashable(part)) for name, part in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


class Plan(_PlanFields):
    """The plan of a run: everything that determines its trials, and the rule that decides about them."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of this plan."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", by_alias=True)).encode()).hexdigest()

    @property
    def cost_per_trial(self) -> float | None:
        """Maximum cost of one trial in USD: an equal share of `max_cost`; None without a maximum."""
        return None if self.max_cost is None else self.max_cost / self.planned_trials


class PlanRecord(_PlanFields):
    """A plan as stored with its results, with a hash that reveals changes."""

    sha256: str
    """SHA-256 of the canonical JSON of the other fields."""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Return the record of a plan."""
        return cls(**plan.model_dump(by_alias=True), sha256=plan.sha256)

    @property
    def plan(self) -> Plan:
        """The plan without its hash."""
        return Plan(**self.model_dump(by_alias=True, exclude={"sha256"}))

    @model_validator(mode="after")
    def _unchanged(self) -> Self:
        if self.plan.sha256 != self.sha256:
            raise ValueError("the plan was changed after it was written: its sha256 differs")
        return self


def canonical_json(value: object) -> str:
    """Return the canonical JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@cache
def default_rule() -> DecisionRule:
    """Return the decision rule for plans without one."""
    return DecisionRule.model_validate({**_defaults()["decision"], "is_default": True})


def assumed_tokens() -> tuple[int, int]:
    """Return the assumed input and output tokens of a trial, for estimates without a measurement."""
    tokens = _defaults()["tokens"]
    return tokens["input"], tokens["output"]


def guard_trials() -> tuple[int, int]:
    """Return the default trials of a comparison of guardrails: per attack and setting, and per job and setting."""
    trials = _defaults()["guard"]
    return trials["trials"], trials["job_trials"]


def _defaults() -> dict[str, Any]:
    return read_toml("redline", "plans/defaults.toml")


def completed(plan: Plan) -> Plan:
    """Validate a plan's names, and return it with every factor of every arm and the decision rule written out.

    Raises:
        UsageError: A scenario, factor or setting is unknown, or two arms are the same.
    """
    known = scenarios()
    arms = tuple(_completed_arm(arm, known) for arm in plan.arms)
    try:
        return Plan.model_validate(
            plan.model_dump(by_alias=True) | {"arms": [arm.model_dump() for arm in arms]} | {"decision": plan.rule}
        )
    except ValidationError as error:  # arms that differ only in whether a default is written out are duplicates
        raise UsageError(f"bad plan: {one_line(error)}") from error


def _completed_arm(arm: Arm, known: Mapping[str, Scenario]) -> Arm:
    scenario = _scenario(arm.scenario, known)
    factors = {name: factor.default for name, factor in scenario.factors.items()}
    for name, value in arm.factors.items():
        if name not in scenario.factors:
            raise UsageError(unknown(f"factor of {arm.scenario}", name, scenario.factors))
        factors[name] = scenario.factors[name].setting(value)
    return arm.model_copy(update={"factors": factors})


def _scenario(name: str, known: Mapping[str, Scenario]) -> Scenario:
    if name not in known:
        raise UsageError(unknown("scenario", name, known))
    return known[name]


def arms_from(names: Sequence[str], assignments: Sequence[str]) -> tuple[Arm, ...]:
    """Return the arms that a command line names.

    A factor applies to every scenario that has it. A factor given several times makes one arm per value.

    Raises:
        UsageError: A scenario or factor is unknown.
    """
    known = scenarios()
    chosen = {name: _scenario(name, known).factors for name in names}
    settings = _grouped(assignments)
    for factor in settings:
        if not any(factor in factors for factors in chosen.values()):
            raise UsageError(unknown("factor", factor, {name for factors in chosen.values() for name in factors}))
    return tuple(
        Arm(scenario=scenario, factors=dict(zip(given, values, strict=True)))
        for scenario, factors in chosen.items()
        for given in [[name for name in settings if name in factors]]
        for values in itertools.product(*(settings[name] for name in given))
    )


def models_from(names: Sequence[str], assignments: Sequence[str]) -> tuple[ModelSpec, ...]:
    """Return the models that a command line names; a control gets only the arguments that it supports.

    Raises:
        UsageError: No model supports one of the arguments.
    """
    args = {name: _number_or_text(value) for name, value in map(assignment, assignments)}
    specs = tuple(ModelSpec(name=name, args=_supported_args(name, args)) for name in names)
    for name in args:
        if not any(name in spec.args for spec in specs):
            options = {option for spec in specs for option in _options_of(spec.name)}
            raise UsageError(unknown("model argument", name, options))
    return specs


def _supported_args(model: str, args: Mapping[str, Setting]) -> dict[str, Setting]:
    if not model.startswith(CONTROL_PREFIX):
        return dict(args)
    options = _options_of(model)
    return {name: value for name, value in args.items() if name in options}


def _options_of(control: str) -> set[str]:
    """Return the names of the arguments that a control takes."""
    return {DELAY, *dict(find_control(control.removeprefix(CONTROL_PREFIX)).options)}


def _number_or_text(text: str) -> Setting:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: an integer of thousands of digits
        return text
    return value if isinstance(value, str | int | float | bool) else text


def _grouped(assignments: Sequence[str]) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for name, value in map(assignment, assignments):
        settings.setdefault(name, []).append(value)
    return settings


def assignment(text: str) -> tuple[str, str]:
    """Split `name=value`.

    Raises:
        UsageError: The text has another form.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"'{text}' is not of the form name=value")
    return name, value
