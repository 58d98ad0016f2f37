"""Guardrails: what prevents or detects replication, switched on as a treatment. One file each.

The cell's own boundary is none of them: it holds whatever is switched on.
"""

from redline.guardrails.beforehand import caps_of, incompatibilities, shaped
from redline.guardrails.guard import Guard
from redline.guardrails.guardrail import (
    Action,
    AnyGuardrail,
    Finding,
    Findings,
    Guardrail,
    OnFailure,
    Parameters,
    Setting,
    Where,
)
from redline.guardrails.registry import NONE, guardrails, read_guardrails

__all__ = [
    "NONE",
    "AnyGuardrail",
    "Action",
    "Finding",
    "Findings",
    "Guard",
    "Guardrail",
    "OnFailure",
    "Parameters",
    "Setting",
    "Where",
    "caps_of",
    "guardrails",
    "incompatibilities",
    "read_guardrails",
    "shaped",
]
