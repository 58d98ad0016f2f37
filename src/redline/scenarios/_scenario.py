"""The decorator by which a function that describes an arm becomes an Inspect task with every factor as its argument."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec

import docstring_parser
from inspect_ai import Task, task

from redline.scenarios._task import Arm, Common, compose, incompatibilities_in
from redline.verify.trial import Scalar

P = ParamSpec("P")

COMMON = "common"
"""Name of the parameter that takes the common settings."""

DESCRIBE = "describe_arm"
"""Attribute of a scenario's task that holds the function it was made of."""


def scenario(
    *, without: Collection[str] = ()
) -> Callable[[Callable[Concatenate[Common, P], Arm]], Callable[..., Task]]:
    """Makes an Inspect task of a function that says what an arm is.

    The function takes the common settings and, as keyword arguments, the scenario's own factors. The task takes all of
    them as keyword arguments; a factor of the scenario's own stands in the place of a common one of the same name.

    Args:
        without: Common factors that make no sense in this scenario.
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
        # What a user can set is read from here, by Inspect and by the catalogue.
        parameters = (*own, *shared)
        make.__dict__.pop("__wrapped__")
        make.__dict__["__signature__"] = inspect.Signature(list(parameters), return_annotation=Task)
        make.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": Task}
        make.__dict__[DESCRIBE] = describe
        make.__doc__ = _documented(describe, [one.name for one in shared])
        return task(make)

    return decorate


def _documented(describe: Callable[..., Arm], shared: Collection[str]) -> str:
    """What the function says, with what is said of the common factors in the place of their common parameter."""
    said = docstring_parser.parse_from_object(describe)
    own = [part for part in said.meta if part.args[-1:] != [COMMON]]
    common = [part for part in docstring_parser.parse_from_object(Common).params if part.arg_name in shared]
    for part in common:
        part.args = ["param", part.arg_name]
    said.meta = [*own, *common]
    said.blank_after_short_description = True
    return docstring_parser.compose(said, docstring_parser.DocstringStyle.GOOGLE)


def arm_of(scenario_task: Callable[..., Task], common: Common | None = None, **factors: Scalar) -> Arm:
    """The arm that some settings make, without the factors that the scenario shares with others."""
    return _arm(getattr(scenario_task, DESCRIBE), common or Common(), factors)


def incompatibilities_of(
    scenario_task: Callable[..., Task], factors: Mapping[str, Scalar], names: Sequence[str]
) -> dict[str, str]:
    """Which of some guardrails cannot stand in the arm that some factors make, each with the reason.

    The reasons are by the names as they are given, with parameters.
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
    return describe(common, **factors)


def _parameter(name: str) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=getattr(Common, name), annotation=Common.__annotations__[name])
