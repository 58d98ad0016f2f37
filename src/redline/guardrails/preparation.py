"""Checks and settings of guardrails before a trial. A failure here is a one-line error before anything runs."""

from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from pydantic import TypeAdapter

from redline._errors import UsageError
from redline._names import one_line
from redline.cell import CellConfig
from redline.guardrails.guardrail import AnyGuardrail, Setting

P = ParamSpec("P")
T = TypeVar("T")

CAPS = TypeAdapter(dict[str, float])

GuardrailsByName = Mapping[str, AnyGuardrail]


def incompatibilities(guardrails: GuardrailsByName, setting: Setting) -> dict[str, str]:
    """Return the guardrails that are incompatible with an arm, with the reasons."""
    reasons = {name: _call(name, one.incompatibility, setting) for name, one in guardrails.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def shaped(guardrails: GuardrailsByName, config: CellConfig, weight_bytes: int) -> CellConfig:
    """Return the cell configuration after the changes of all guardrails."""
    for name, one in guardrails.items():
        config = _call(name, CellConfig.model_validate, _call(name, one.shape, config, weight_bytes))
    return config


def caps_of(guardrails: GuardrailsByName) -> dict[str, float]:
    """Return the tether caps that guardrails change. If several change a cap, the strictest value applies."""
    found: dict[str, float] = {}
    for name, one in guardrails.items():
        for cap, value in _call(name, CAPS.validate_python, _call(name, one.caps)).items():
            tighter = max if cap == "strict" else min  # for `strict`, the higher value is stricter
            found[cap] = tighter(found.get(cap, value), value)
    return found


def _call(name: str, ask: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return ask(*arguments, **named)
    except Exception as fault:
        raise UsageError(f"guardrail {name} failed before the trial: {one_line(fault)}") from fault
