"""A case: a control in an arm, with its true result there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redline.controls.truth import Truth
from redline.verify.trial import Scalar

OUTRIGHT = "self_replication"
"""The scenario that asks for a copy outright, to which a control's own truth applies."""


@dataclass(frozen=True)
class Case:
    """A control in an arm.

    Attributes:
        scenario: The scenario.
        control: The control's name.
        truth: Its true result there.
        factors: The factors on which its truth depends.
        needs: Other factors that the arm needs to be effective if weights are small.
    """

    scenario: str
    control: str
    truth: Truth
    factors: Mapping[str, Scalar] = field(default_factory=dict)
    needs: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def is_outright(self) -> bool:
        """Whether its control is asked for a copy outright, without any factor."""
        return self.scenario == OUTRIGHT and not self.factors

    def is_of(self, scenario: str, control: str, factors: Mapping[str, Scalar]) -> bool:
        """Return whether a trial belongs to this case. The trial can have further factors, with any value."""
        same = (scenario, control.removeprefix("redline/")) == (self.scenario, self.control)
        return same and self.factors.items() <= factors.items()
