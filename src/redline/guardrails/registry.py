"""The registry of guardrails, redline's own and those of other packages, and the parser of the factor."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final, get_args

from redline._errors import UsageError
from redline._names import one_line, unknown
from redline.guardrails.approval import Approval
from redline.guardrails.copy_watch import CopyWatch
from redline.guardrails.decoy_weights import DecoyWeights
from redline.guardrails.guardrail import ACTIONS, AnyGuardrail, Guardrail, OnFailure, Where
from redline.guardrails.kill_on_notice import KillOnNotice
from redline.guardrails.lexical_monitor import LexicalMonitor
from redline.guardrails.listener_watch import ListenerWatch
from redline.guardrails.llm_monitor import LLMMonitor
from redline.guardrails.no_new_listener import NoNewListener
from redline.guardrails.replica_cap import ReplicaCap
from redline.guardrails.second_engine_watch import SecondEngineWatch
from redline.guardrails.target_lock import TargetLock
from redline.guardrails.weight_lock import WeightLock
from redline.guardrails.weight_read_watch import WeightReadWatch
from redline.guardrails.write_quota import WriteQuota
from redline.verify.guarded import PREVENTABLE

NONE: Final = "none"
BETWEEN: Final = "+"
BEFORE_PARAMETER: Final = ":"
GROUP: Final = "redline.guardrails"
"""Entry point group through which other packages provide guardrails."""

BUILT_IN: Mapping[str, type[AnyGuardrail]] = MappingProxyType(
    {
        "weight_lock": WeightLock,
        "replica_cap": ReplicaCap,
        "no_new_listener": NoNewListener,
        "write_quota": WriteQuota,
        "target_lock": TargetLock,
        "approval": Approval,
        "kill_on_notice": KillOnNotice,
        "weight_read_watch": WeightReadWatch,
        "decoy_weights": DecoyWeights,
        "copy_watch": CopyWatch,
        "listener_watch": ListenerWatch,
        "second_engine_watch": SecondEngineWatch,
        "lexical_monitor": LexicalMonitor,
        "llm_monitor": LLMMonitor,
    }
)


@cache
def guardrails() -> Mapping[str, type[AnyGuardrail]]:
    """Return all guardrails by name.

    Raises:
        UsageError: A guardrail of another package cannot be loaded, or its name is taken or invalid.
    """
    found = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in found or not point.name.isidentifier() or point.name == NONE:
            raise UsageError(f"guardrail '{point.name}' of {point.value}: its name is taken or is not an identifier")
        try:
            loaded = point.load()
        except Exception as error:
            raise UsageError(
                f"guardrail '{point.name}' of {point.value} cannot be loaded: {one_line(error)}"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Guardrail)):
            raise UsageError(f"guardrail '{point.name}' of {point.value}: it is not a subclass of Guardrail")
        if fault := _fault_of(loaded):
            raise UsageError(f"guardrail '{point.name}' of {point.value}: {fault}")
        found[point.name] = loaded
    return MappingProxyType(found)


def read_guardrails(text: str) -> dict[str, AnyGuardrail]:
    """Create the guardrails of a factor such as `weight_lock+write_quota:share=0.5`, by name.

    Raises:
        UsageError: A guardrail or a parameter is unknown, or a guardrail is named twice.
    """
    created: dict[str, AnyGuardrail] = {}
    for part in text.split(BETWEEN) if text != NONE else ():
        name, *assignments = part.split(BEFORE_PARAMETER)
        if name not in guardrails():
            raise UsageError(unknown("guardrail", name, [*guardrails(), NONE]))
        if name in created:
            raise UsageError(f"guardrails={text}: {name} is given twice")
        created[name] = _created(name, assignments)
    return created


def _created(name: str, assignments: list[str]) -> AnyGuardrail:
    kind = guardrails()[name]
    given: dict[str, str] = {}
    for assignment in assignments:
        parameter, equals, value = assignment.partition("=")
        if not equals or parameter in given:
            raise UsageError(f"guardrail {name}: '{assignment}' is not of the form parameter=value, or is given twice")
        given[parameter] = value
    try:
        return kind(kind.parameters_type.model_validate_strings(given))
    except Exception as error:
        raise UsageError(f"guardrail {name}: {one_line(error)}") from error


def _fault_of(kind: type[AnyGuardrail]) -> str | None:
    """Return what is wrong with the declarations of a class; None if they are valid."""
    allowed = {"where": get_args(Where), "on_failure": get_args(OnFailure), "prevents": (None, *PREVENTABLE)}
    for name, choices in allowed.items():
        if (value := getattr(kind, name, ...)) not in choices:
            return f"its {name} is {value}; it must be one of {', '.join(map(str, choices))}"
    if not set(kind.actions) <= set(ACTIONS):
        return f"its actions are {', '.join(map(str, kind.actions))}; they must be among {', '.join(ACTIONS)}"
    return None
