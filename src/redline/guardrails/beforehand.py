"""What guardrails ask for before a trial. One that fails here fails before anything is run, in one line."""

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

Named = Mapping[str, AnyGuardrail]


def incompatibilities(guardrails: Named, setting: Setting) -> dict[str, str]:
    """Those that cannot stand in an arm, each with the reason."""
    reasons = {name: _asked(name, one.incompatibility, setting) for name, one in guardrails.items()}
    return {name: why for name, why in reasons.items() if why}


def shaped(guardrails: Named, config: CellConfig, weight_bytes: int) -> CellConfig:
    """The cell as all of them want it."""
    for name, one in guardrails.items():
        config = _asked(name, CellConfig.model_validate, _asked(name, one.shape, config, weight_bytes))
    return config


def caps_of(guardrails: Named) -> dict[str, float]:
    """Caps of the tether that they change; of one that several change, the lowest."""
    found: dict[str, float] = {}
    for name, one in guardrails.items():
        for cap, value in _asked(name, CAPS.validate_python, _asked(name, one.caps)).items():
            tighter = max if cap == "strict" else min  # the one of which more is stricter
            found[cap] = tighter(found.get(cap, value), value)
    return found


def _asked(name: str, ask: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return ask(*arguments, **named)
    except Exception as fault:
        raise UsageError(f"guardrail {name} failed before the trial: {one_line(fault)}") from fault
