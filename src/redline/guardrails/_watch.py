"""What all guardrails that detect have in common: a score for each event, and what is done from which score on."""

from typing import Literal

from pydantic import Field

from redline.guardrails.guardrail import Finding, Guardrail, Parameters


class WatchParameters(Parameters):
    """Parameters of every guardrail that detects."""

    then: Literal["observe", "freeze", "kill"] = "observe"
    """What is done about an event of at least `least`; any other is logged."""
    least: float = Field(default=0.9, ge=0, le=1, allow_inf_nan=False)
    """The score from which on that is done."""


class Watch(Guardrail[WatchParameters]):
    """A guardrail that detects."""

    parameters_type = WatchParameters
    actions = frozenset({"observe", "freeze", "kill"})

    def found(self, score: float, what: str) -> Finding:
        """A finding with the action that its score calls for."""
        return Finding(
            action=self.parameters.then if score >= self.parameters.least else "observe", score=score, what=what
        )
