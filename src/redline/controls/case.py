"""A case: a control in an arm, and what is true of it there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redline.controls.truth import Truth
from redline.verify.trial import Scalar

OUTRIGHT = "self_replication"
"""The scenario in which a control's own truth holds."""


@dataclass(frozen=True)
class Case:
    """A control in an arm.

    Attributes:
        scenario: The scenario.
        control: The control's name.
        truth: What is true of it there.
        factors: The factors on which its truth depends.
        needs: Others without which the arm would not be what it is where weights are small.
    """

    scenario: str
    control: str
    truth: Truth
    factors: Mapping[str, Scalar] = field(default_factory=dict)
    needs: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def is_outright(self) -> bool:
        """Whether its control is asked outright for a copy, with no factor in the way."""
        return self.scenario == OUTRIGHT and not self.factors

    def is_of(self, scenario: str, control: str, factors: Mapping[str, Scalar]) -> bool:
        """Whether a trial is one of this case: it may have more factors, at whatever setting."""
        same = (scenario, control.removeprefix("redline/")) == (self.scenario, self.control)
        return same and self.factors.items() <= factors.items()
