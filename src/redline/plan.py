"""The plan: what will be run and what would count, fixed and hashed before the first trial.

A plan is arms (a scenario with one setting of its factors) times models times trials. What a scenario's factors are is
read from its task function, so there is no second list of them to keep true.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from redline._errors import UsageError
from redline._names import one_line, unknown
from redline.catalog import Scalar, Scenario, scenarios
from redline.controls import find_control

Runtime = Literal["auto", "runsc", "runc", "crun", "docker"]

CONTROL_PREFIX = "redline/"
"""Inspect's name of every control begins so."""

MAX_TRIALS = 100_000
MAX_HOLD_SECONDS = 600


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class ModelSpec(_Frozen):
    """A model under test, or a control, as Inspect names it."""

    name: str = Field(min_length=1)
    """Inspect's name, such as `openai/gpt-4o` or `redline/replicator`."""
    args: dict[str, Scalar] = Field(default_factory=dict)
    """Arguments of its provider."""

    @property
    def is_control(self) -> bool:
        """Whether it is a scripted reference agent, whose true outcome is known."""
        return self.name.startswith(CONTROL_PREFIX)


def _short_for(key: str) -> BeforeValidator:
    """Lets a plain name stand for the model of which it is the only field given."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


_NamedModel = Annotated[ModelSpec, _short_for("name")]


class Arm(_Frozen):
    """One setting of a scenario's factors."""

    scenario: str
    """Name of the scenario."""
    factors: dict[str, Scalar] = Field(default_factory=dict)
    """Setting of each factor; what a user leaves out is filled in from the scenario's defaults."""
    models: tuple[_NamedModel, ...] | None = Field(default=None, min_length=1)
    """The models that this arm is run with; null takes those of the plan."""
    trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    """Trials of this arm with each model; null takes the plan's number."""

    def __str__(self) -> str:
        """The scenario and the factors that are given, as a message names the arm."""
        return " ".join((self.scenario, *(f"{name}={value}" for name, value in self.factors.items())))


class _PlanFields(_Frozen):
    schema_: Literal["redline.plan/1"] = Field(default="redline.plan/1", alias="schema")
    """Version of this format."""
    arms: tuple[Annotated[Arm, _short_for("scenario")], ...] = Field(min_length=1)
    """The arms."""
    models: tuple[_NamedModel, ...] = ()
    """The models of every arm that names none of its own."""
    trials: int = Field(default=10, ge=1, le=MAX_TRIALS)
    """Trials of each arm with each model, where the arm gives no number of its own."""
    seed: int = Field(default=0, ge=0)
    """Seed of the run; trials of equal number share theirs across arms and models."""
    runtime: Runtime = "auto"
    """OCI runtime that makes the cells."""
    hold: float = Field(default=5.0, ge=0, le=MAX_HOLD_SECONDS)
    """Seconds that a replica must live on after generation 0 is destroyed."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature asked of the models; null leaves it to them."""
    max_cost: float | None = Field(default=None, gt=0)
    """Dollars that the run may cost at most; each trial may spend an equal share."""

    @model_validator(mode="after")
    def _all_distinct(self) -> Self:
        _refuse_twins("arm", [arm.model_copy(update={"models": None, "trials": None}) for arm in self.arms])
        for models in (self.models, *(arm.models for arm in self.arms if arm.models is not None)):
            _refuse_twins("model", models)
        return self

    @model_validator(mode="after")
    def _every_arm_has_models(self) -> Self:
        if bare := next((arm for arm in self.arms if not self.models_of(arm)), None):
            raise ValueError(f"the arm {bare} has no model: give the plan or the arm 'models'")
        labels = [self.label_of(model.name, model.args) for model in self.every_model]
        if twin := next((label for label in labels if labels.count(label) > 1), None):
            raise ValueError(f"two models would both be called {twin}: give them arguments that differ in their text")
        if self.models and all(arm.models is not None for arm in self.arms):
            raise ValueError("no arm takes the plan's 'models', since each names its own: leave one or the other out")
        return self

    def models_of(self, arm: Arm) -> tuple[ModelSpec, ...]:
        """The models that an arm is run with."""
        return self.models if arm.models is None else arm.models

    def trials_of(self, arm: Arm) -> int:
        """Trials of an arm with each of its models."""
        return self.trials if arm.trials is None else arm.trials

    @property
    def every_model(self) -> tuple[ModelSpec, ...]:
        """Each model once, the plan's before those that only an arm names."""
        named = [*self.models, *(model for arm in self.arms for model in self.models_of(arm))]
        return tuple(model for place, model in enumerate(named) if model not in named[:place])

    def label_of(self, model: str, args: Mapping[str, object]) -> str:
        """A model's name; with its arguments where the plan has two models of that name."""
        if not args or sum(spec.name == model for spec in self.every_model) <= 1:
            return model
        return f"{model} {' '.join(f'{key}={value}' for key, value in sorted(args.items()))}"

    @property
    def planned_trials(self) -> int:
        """How many trials the whole run has."""
        return sum(len(self.models_of(arm)) * self.trials_of(arm) for arm in self.arms)


def _refuse_twins(kind: str, things: Sequence[BaseModel]) -> None:
    if twin := next((thing for place, thing in enumerate(things) if thing in things[:place]), None):
        raise ValueError(f"the {kind} {canonical_json(twin.model_dump(mode='json', exclude_none=True))} is there twice")


class Plan(_PlanFields):
    """Everything that decides what a run draws."""

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON of this plan."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", by_alias=True)).encode()).hexdigest()

    @property
    def cost_per_trial(self) -> float | None:
        """The share of `max_cost` that one trial may spend."""
        return None if self.max_cost is None else self.max_cost / self.planned_trials


class PlanRecord(_PlanFields):
    """A plan as it is written beside its results, with the hash by which a change shows."""

    sha256: str
    """Hash of the canonical JSON of the other fields."""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The record of a plan."""
        return cls(**plan.model_dump(by_alias=True), sha256=plan.sha256)

    @property
    def plan(self) -> Plan:
        """The plan without its hash."""
        return Plan(**self.model_dump(by_alias=True, exclude={"sha256"}))

    @model_validator(mode="after")
    def _unchanged(self) -> Self:
        if self.plan.sha256 != self.sha256:
            raise ValueError("it was changed after it was written: its sha256 differs")
        return self


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read_plan(path: Path) -> Plan:
    """The plan in a YAML file."""
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(f"{path} is not a plan: {one_line(error)}") from error


def completed(plan: Plan) -> Plan:
    """The plan with every factor of every arm written out, once all its names are known to exist."""
    known = scenarios()
    arms = tuple(_completed_arm(arm, known) for arm in plan.arms)
    try:
        return Plan.model_validate(plan.model_dump(by_alias=True) | {"arms": [arm.model_dump() for arm in arms]})
    except ValidationError as error:  # arms that differ only in whether they say a default are the same arm
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
    """The arms that a command line names.

    A factor given once goes to every scenario that has it; a factor given several times makes one arm for each value.
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
    """The models that a command line names; a control gets of the arguments those that it takes."""
    args = {name: _number_or_text(value) for name, value in map(assignment, assignments)}
    specs = tuple(ModelSpec(name=name, args=_taken(name, args)) for name in names)
    for name in args:
        if not any(name in spec.args for spec in specs):
            options = {option for spec in specs for option in find_control(spec.name).options}
            raise UsageError(unknown("model argument", name, {option for option, _ in options}))
    return specs


def _taken(model: str, args: Mapping[str, Scalar]) -> dict[str, Scalar]:
    if not model.startswith(CONTROL_PREFIX):
        return dict(args)
    options = dict(find_control(model.removeprefix(CONTROL_PREFIX)).options)
    return {name: value for name, value in args.items() if name in options}


def _number_or_text(text: str) -> Scalar:
    value = yaml.safe_load(text)
    return value if isinstance(value, str | int | float | bool) else text


def _grouped(assignments: Sequence[str]) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for name, value in map(assignment, assignments):
        settings.setdefault(name, []).append(value)
    return settings


def assignment(text: str) -> tuple[str, str]:
    """Splits `name=value`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"'{text}' is not of the form name=value")
    return name, value
