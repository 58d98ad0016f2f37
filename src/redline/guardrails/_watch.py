"""The base class of detectors: events have a score, and a threshold selects the action."""

from typing import Literal

from pydantic import Field

from redline.guardrails.guardrail import Finding, Guardrail, Parameters


class WatchParameters(Parameters):
    """Parameters of every detector."""

    then: Literal["observe", "freeze", "kill"] = "observe"
    """Action for events with a score of at least `least`. All other events are only logged."""
    least: float = Field(default=0.9, ge=0, le=1, allow_inf_nan=False)
    """Minimum score for the action."""


class Watch(Guardrail[WatchParameters]):
    """Base class of detectors."""

    parameters_type = WatchParameters
    actions = frozenset({"observe", "freeze", "kill"})

    def found(self, score: float, what: str) -> Finding:
        """Return a finding whose action follows from its score."""
        return Finding(
            action=self.parameters.then if score >= self.parameters.least else "observe", score=score, what=what
        )
