"""Catalogue of the scenarios and their factors.

The factors of a scenario are read from its task function, so that there is no second list to maintain.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import docstring_parser
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from redline._base import Frozen
from redline._bounds import MAX_NUMBER
from redline._errors import UsageError
from redline._names import one_line, unknown


def usable(value: object) -> object:
    """Return the value unless it is a number that is too large to compute with.

    Raises:
        ValueError: The number is infinite, NaN or beyond `MAX_NUMBER`.
    """
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # NaN compares false
        raise ValueError(f"it must be a finite number, at most {MAX_NUMBER:g} in size")
    return value


Setting = Annotated[str | int | float | bool, BeforeValidator(usable)]
"""Setting of a factor, or argument of a model."""

RUN_SETTINGS = frozenset({"trials", "seed", "hold", "runtime"})
"""Arguments of every scenario's task that a run sets equally for all arms; the others are factors."""


class Factor(Frozen):
    """One factor of a scenario, as its task function declares it."""

    name: str
    """Name of the argument."""
    default: Setting
    """Default setting."""
    choices: tuple[Setting, ...]
    """All permitted settings; empty if they are not a fixed list."""
    type: Any
    """Annotation of the argument, against which a setting is validated."""
    summary: str
    """Description in one line."""

    def setting(self, value: Setting) -> Setting:
        """Return the validated value; text from a command line is converted to the factor's type.

        Raises:
            UsageError: The factor does not accept the value.
        """
        adapter: TypeAdapter[Setting] = TypeAdapter(self.type)
        try:
            setting = adapter.validate_strings(value) if isinstance(value, str) else adapter.validate_python(value)
        except ValidationError as error:
            if self.choices:
                message = unknown(f"setting of {self.name}", str(value), map(str, self.choices))
                raise UsageError(message) from error
            raise UsageError(f"{self.name}={value}: {one_line(error)}") from error
        try:
            usable(setting)
        except ValueError as error:
            raise UsageError(f"{self.name}={value}: {error}") from error
        return setting


class Scenario(Frozen):
    """A scenario that a plan can name."""

    name: str
    """Name of the scenario."""
    summary: str
    """First line of its description."""
    factors: dict[str, Factor]
    """Factors by name."""
    task: Callable[..., Any]
    """Function that returns the Inspect task of one arm."""


def scenarios() -> Mapping[str, Scenario]:
    """Return every scenario by name."""
    from redline.scenarios import SCENARIOS

    return {name: describe(name, task) for name, task in SCENARIOS.items()}


def describe(name: str, task: Callable[..., Any]) -> Scenario:
    """Return the scenario that a task function and its docstring describe."""
    from redline.scenarios._arm import Common

    function = inspect.unwrap(task)
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    summaries = {**_argument_summaries(Common), **_argument_summaries(function)}
    return Scenario(
        name=name,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
        factors={
            parameter.name: Factor(
                name=parameter.name,
                default=parameter.default,
                choices=_choices(hints[parameter.name]),
                type=hints[parameter.name],
                summary=summaries.get(parameter.name, ""),
            )
            for parameter in parameters
            if parameter.name not in RUN_SETTINGS
        },
        task=task,
    )


def _argument_summaries(documented: Callable[..., Any]) -> dict[str, str]:
    docstring = docstring_parser.parse(inspect.getdoc(documented) or "")
    return {argument.arg_name: " ".join((argument.description or "").split()) for argument in docstring.params}


def _choices(hint: object) -> tuple[Setting, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
