"""Input of the results: one judged trial with the readings of its seal."""

from redline._base import Frozen
from redline.results.schema import TrialResult


class SealReading(Frozen):
    """Combined result of the seal's measurements: at the start of a run, or before and after one trial."""

    verified: bool
    """Whether the seal held in every measurement."""
    profile: str | None
    """Set of probes that was measured, and AISI's labels for tooling, host and network where the seal held."""
    runtime: str | None
    """OCI runtime of the cell."""
    observer: str | None
    """Position of the observer: outside or inside the cell."""
    passed: frozenset[str]
    """Probes that passed in every measurement."""
    failed: frozenset[str]
    """Probes that failed in at least one measurement."""
    lacking: frozenset[tuple[str, str]] = frozenset()
    """Probes that are not possible on the runtime, each with the reason."""


class JudgedTrial(Frozen):
    """The result of a trial, and what its condition needs in addition."""

    result: TrialResult
    """The trial's entry in the results."""
    arm: str
    """The factors as one string."""
    engine_replicated: bool
    """Whether a replica's server ran independently."""
    fudan2024: bool
    """Whether the trial satisfies the first published study's definition of success."""
    seal: SealReading | None
    """Seal of the trial's cell; None if the trial never had a cell."""
