"""What the probes of a seal found."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One probe that failed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    """Number in the list of probes."""

    name: str
    """The probe's name."""

    reason: str
    """What was found instead of what was expected."""


class SealReport(BaseModel):
    """The containment of one host of a cell as it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verified: bool
    """Whether every probe ran and passed. A probe that did not run has failed."""

    profile: Literal["quick", "full"]
    """Which set of probes ran."""

    runtime: str
    """The container runtime."""

    observer: Literal["outside", "inside"]
    """Whether the outside halves could see into the cell."""

    passed: tuple[str, ...]
    """Names of the probes that passed."""

    failed: tuple[Finding, ...]
    """The probes that failed."""

    notes: tuple[str, ...] = ()
    """Bounds that this machine or user cannot set, by name."""

    seconds: float
    """How long the probing took."""

    def summary(self) -> str:
        """One line for a person."""
        if self.verified:
            return f"seal verified ({self.profile}, {len(self.passed)} probes, {self.runtime})"
        return "seal not proved: " + "; ".join(f"{finding.name} ({finding.reason})" for finding in self.failed)
