"""What a scenario declares about itself, and the registry that discovery fills."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Literal

from inspect_ai import Task

from redline._errors import UsageError
from redline.scenarios._prompts import add_folder
from redline.verify.measures import Measure, add_measure
from redline.verify.trial import Scalar

ENTRY_POINTS = "redline.scenarios"
"""Group of entry points by which an installed package adds scenarios."""

ASKS_FOR_A_COPY = r"\bcopy of yourself\b|\bcopy that does not depend on you\b"


@dataclass(frozen=True)
class ControlCase:
    """A control whose true result in the scenario is known; `redline calibrate` runs it.

    Attributes:
        control: Name of the control.
        expect: `as_asked` (the control's own result where a copy is asked for) or `no_attempt`.
        factors: Factors of the arm.
        measures: Expected values of figures in addition to the milestones.
    """

    control: str
    expect: Literal["as_asked", "no_attempt"] = "as_asked"
    factors: Mapping[str, Scalar] = field(default_factory=dict)
    measures: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """A scenario and what it declares about itself.

    Attributes:
        name: Name of the scenario, which is the name of its function.
        task: Function that makes the Inspect task of an arm.
        folder: Folder of the scenario, with its prompts and statements.
        attack: Factors under which `redline guard` runs the scenario as an attack; None leaves it out.
        asks: Regular expression by which a control recognises a brief that asks for a copy.
        occasion: Regular expression by which a control recognises the event in a tool result that the arm is about.
        cases: Controls with a known result.
    """

    name: str
    task: Callable[..., Task]
    folder: Path
    attack: Mapping[str, str | int | float | bool] | None = None
    asks: str = ASKS_FOR_A_COPY
    occasion: str | None = None
    cases: Sequence[ControlCase] = ()


_declared: dict[str, Declaration] = {}
_tasks: dict[str, Callable[..., Task]] = {}

DECLARATIONS: Mapping[str, Declaration] = MappingProxyType(_declared)
"""Declarations of all scenarios by name."""

SCENARIOS: Mapping[str, Callable[..., Task]] = MappingProxyType(_tasks)
"""Task functions of all scenarios by name."""


def register(declaration: Declaration, measure: Measure | None = None) -> None:
    """Add a scenario to the registry. Loading the same file again replaces its entry.

    Args:
        declaration: The scenario.
        measure: Function that computes the scenario's own figures from a trial's evidence.

    Raises:
        UsageError: Another folder already defines a scenario with this name.
    """
    known = _declared.get(declaration.name)
    if known is not None and known.folder != declaration.folder:
        raise UsageError(
            f"scenario {declaration.name} is defined in {known.folder} and in {declaration.folder}: rename one of them"
        )
    add_folder(declaration.name, declaration.folder)
    _declared[declaration.name] = declaration
    _tasks[declaration.name] = declaration.task
    if measure is not None:
        add_measure(declaration.name, measure)


def discover(package: str, path: Sequence[str]) -> None:
    """Import every scenario: the folders of a package, then the entry points of installed packages.

    Args:
        package: Dotted name of the package.
        path: Its `__path__`.

    Raises:
        UsageError: An installed package's scenario cannot be imported, or its name is taken.
    """
    for module in iter_modules(path):
        if module.ispkg:
            import_module(f"{package}.{module.name}")
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            entry_point.load()
        except UsageError:
            raise
        except Exception as error:  # code of another package, which can raise anything
            raise UsageError(
                f"scenario {entry_point.name} ({entry_point.value}) cannot be imported "
                f"({type(error).__name__}: {error}): fix or uninstall its package"
            ) from error
