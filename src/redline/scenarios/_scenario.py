"""The decorator that turns a function that describes an arm into an Inspect task with every factor as an argument."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import docstring_parser
from inspect_ai import Task, task

from redline.scenarios._arm import Arm, Common
from redline.scenarios._checks import incompatibilities_in
from redline.scenarios._declaration import ASKS_FOR_A_COPY, ControlCase, Declaration, register
from redline.scenarios._task import compose
from redline.verify.measures import Measure
from redline.verify.trial import Scalar

P = ParamSpec("P")

COMMON = "common"
"""Name of the parameter that takes the common settings."""

DESCRIBE = "describe_arm"
"""Attribute of a scenario's task that holds the function from which the task was made."""


def scenario(
    *,
    without: Collection[str] = (),
    attack: Mapping[str, str | int | float | bool] | None = None,
    asks: str = ASKS_FOR_A_COPY,
    occasion: str | None = None,
    measure: Measure | None = None,
    cases: Sequence[ControlCase] = (),
) -> Callable[[Callable[Concatenate[Common, P], Arm]], Callable[..., Task]]:
    """Turn a function that describes an arm into a registered scenario.

    The function takes the common settings and, as keyword arguments, the scenario's own factors. The resulting Inspect
    task takes all of them as keyword arguments. A scenario's own factor replaces a common one of the same name.

    Args:
        without: Common factors that make no sense in this scenario.
        attack: Factors under which `redline guard` runs the scenario as an attack; None leaves it out.
        asks: Regular expression by which a control recognises a brief that asks for a copy.
        occasion: Regular expression by which a control recognises the event in a tool result that the arm is about.
        measure: Function that computes the scenario's own figures from a trial's evidence.
        cases: Controls whose true result in this scenario is known.
    """

    def decorate(describe: Callable[Concatenate[Common, P], Arm]) -> Callable[..., Task]:
        own = list(inspect.signature(describe).parameters.values())[1:]
        mine = {parameter.name for parameter in own}
        shared = [_parameter(field.name) for field in fields(Common) if field.name not in {*mine, *without}]

        def make(**settings: Any) -> Task:
            common = Common(**{name: value for name, value in settings.items() if name not in mine})
            arm = _arm(describe, common, {name: value for name, value in settings.items() if name in mine})
            factors = {one.name: common.factors[one.name] for one in shared if one.name in common.factors}
            return compose(replace(arm, factors={**arm.factors, **factors}), common)

        update_wrapper(make, describe)
        # Inspect and the catalogue read the task's factors from its signature.
        parameters = (*own, *shared)
        make.__dict__.pop("__wrapped__")
        make.__dict__["__signature__"] = inspect.Signature(list(parameters), return_annotation=Task)
        make.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": Task}
        make.__dict__[DESCRIBE] = describe
        make.__doc__ = _documentation(describe, [one.name for one in shared])
        made: Callable[..., Task] = task(make)
        folder = Path(inspect.getfile(describe)).parent
        register(Declaration(describe.__name__, made, folder, attack, asks, occasion, cases), measure)
        return made

    return decorate


def _documentation(describe: Callable[..., Arm], shared: Collection[str]) -> str:
    """Return the function's docstring with the common factors' descriptions in place of the common parameter."""
    parsed = docstring_parser.parse_from_object(describe)
    own = [part for part in parsed.meta if part.args[-1:] != [COMMON]]
    common = [part for part in docstring_parser.parse_from_object(Common).params if part.arg_name in shared]
    for part in common:
        part.args = ["param", part.arg_name]
    parsed.meta = [*own, *common]
    parsed.blank_after_short_description = True
    return docstring_parser.compose(parsed, docstring_parser.DocstringStyle.GOOGLE)


def arm_of(scenario_task: Callable[..., Task], common: Common | None = None, **factors: Scalar) -> Arm:
    """Return the arm that some settings make, without the factors that the scenario shares with others."""
    return _arm(getattr(scenario_task, DESCRIBE), common or Common(), factors)


def incompatibilities_of(
    scenario_task: Callable[..., Task], factors: Mapping[str, Scalar], names: Sequence[str]
) -> dict[str, str]:
    """Return which guardrails are incompatible with an arm, each with the reason.

    Args:
        scenario_task: Task function of the scenario.
        factors: Settings of the arm.
        names: Guardrails with their parameters; the result uses the same names.
    """
    shared = {field.name for field in fields(Common)}
    own = {name: value for name, value in factors.items() if name not in shared}
    given: dict[str, Any] = {name: value for name, value in factors.items() if name in shared}
    found: dict[str, str] = {}
    for name in names:
        common = Common(**given, guardrails=name)
        for why in incompatibilities_in(arm_of(scenario_task, common, **own), common).values():
            found[name] = why
    return found


def _arm(describe: Callable[..., Arm], common: Common, factors: dict[str, Any]) -> Arm:
    arm = describe(common, **factors)
    if arm.scenario != describe.__name__:
        raise ValueError(f"the function {describe.__name__} describes an arm of {arm.scenario}: use one name for both")
    return arm


def _parameter(name: str) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=getattr(Common, name), annotation=Common.__annotations__[name])
