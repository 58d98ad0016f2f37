"""What there is to run: scenarios with their factors, and controls.

What a scenario's factors are is read from its task function, so that there is no second list of them to keep true.
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
        ValueError: It is infinite, NaN or beyond `MAX_NUMBER`.
    """
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # NaN compares false
        raise ValueError(f"it must be a finite number, at most {MAX_NUMBER:g} in size")
    return value


Scalar = Annotated[str | int | float | bool, BeforeValidator(usable)]
"""A setting of a factor, or an argument of a model."""

RUN_SETTINGS = frozenset({"trials", "seed", "hold", "runtime"})
"""Arguments of every scenario's task that a run sets alike for all arms; the others are factors."""


class Factor(Frozen):
    """One factor of a scenario, as its task function declares it."""

    name: str
    """Name of the argument."""
    default: Scalar
    """Its default."""
    choices: tuple[Scalar, ...]
    """All it may be, where that is a short list; else empty."""
    type: Any
    """Its annotation, by which a setting is checked."""
    summary: str
    """What it is, in one line."""

    def setting(self, value: Scalar) -> Scalar:
        """The value as the scenario takes it; text, as a command line gives it, is converted."""
        adapter: TypeAdapter[Scalar] = TypeAdapter(self.type)
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
    """Its name."""
    summary: str
    """First line of its description."""
    factors: dict[str, Factor]
    """Its factors by name."""
    task: Callable[..., Any]
    """Makes the Inspect task of one arm."""


def scenarios() -> Mapping[str, Scenario]:
    """Every scenario by name."""
    from redline.scenarios import SCENARIOS

    return {name: describe(name, task) for name, task in SCENARIOS.items()}


def describe(name: str, task: Callable[..., Any]) -> Scenario:
    """What a scenario's task function says about itself, and the common settings about theirs."""
    from redline.scenarios._arm import Common

    function = inspect.unwrap(task)
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    about = {**_said_of_arguments(Common), **_said_of_arguments(function)}
    return Scenario(
        name=name,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
        factors={
            parameter.name: Factor(
                name=parameter.name,
                default=parameter.default,
                choices=_choices(hints[parameter.name]),
                type=hints[parameter.name],
                summary=about.get(parameter.name, ""),
            )
            for parameter in parameters
            if parameter.name not in RUN_SETTINGS
        },
        task=task,
    )


def _said_of_arguments(documented: Callable[..., Any]) -> dict[str, str]:
    said = docstring_parser.parse(inspect.getdoc(documented) or "")
    return {argument.arg_name: " ".join((argument.description or "").split()) for argument in said.params}


def _choices(hint: object) -> tuple[Scalar, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
