"""Guardrails: treatments that prevent or detect replication. Each is one file.

The cell's own boundary is not a guardrail: it does not depend on which guardrails are enabled.
"""

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
from redline.guardrails.preparation import caps_of, incompatibilities, shaped
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
