"""What the probes of a seal found."""

import os
import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Literal

from redline._base import Frozen, read_toml
from redline.cell.config import runtime_names
from redline.cell.open import traits_of
from redline.seal.facts import NOT_RUN, Drill, Probe

if TYPE_CHECKING:
    from redline.cell.cell import Cell

LABELS = "T0.H1.N2"
"""AISI's labels: no tool outside, one host's sandbox, no network."""

SHARED_KERNEL = "the machine's"


class Finding(Frozen):
    """One probe that did not pass, and why."""

    number: int
    """Number in the list of probes."""

    name: str
    """The probe's name."""

    reason: str
    """Why: what was found instead of what was expected, or, where that is known of the runtime, why it is so there."""

    found: str = ""
    """What was found, where the reason does not say it."""


class SealReport(Frozen):
    """The containment of one node of a cell as it was measured."""

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

    lacking: tuple[Finding, ...] = ()
    """Probes that cannot pass, because the runtime truly lacks what they ask for; each with the reason."""

    warnings: tuple[Finding, ...] = ()
    """Probes that only warn, and did."""

    labels: str = ""
    """AISI's labels of tooling, host and network; none where the seal is not proved."""

    kernel: str = ""
    """Whose kernel the agent runs on."""

    notes: tuple[str, ...] = ()
    """Bounds that this machine or user cannot set, by name."""

    not_protected: tuple[str, ...] = ()
    """What such a cell does not protect from, whatever the probes found."""

    seconds: float
    """How long the probing took."""

    @property
    def found_something(self) -> bool:
        """Whether a probe that failed did run; where none did, the cell may have ended before it could be probed."""
        return any(not finding.reason.startswith(NOT_RUN) for finding in self.failed)

    def summary(self) -> str:
        """One line for a person."""
        if self.verified:
            lacking = f", {len(self.lacking)} lacking" if self.lacking else ""
            return f"seal verified ({self.profile}, {len(self.passed)} probes{lacking}, {self.runtime})"
        return "seal not proved: " + "; ".join(f"{finding.name} ({finding.reason})" for finding in self.failed)


def report_of(
    cell: "Cell", found: Iterable[tuple[Probe | Drill, str | None]], *, full: bool, seconds: float
) -> SealReport:
    """The report of what probes found."""
    passed: list[str] = []
    failed: list[Finding] = []
    lacking: list[Finding] = []
    warnings: list[Finding] = []
    for probe, reason in sorted(found, key=lambda pair: pair[0].number):
        if reason is None:
            passed.append(probe.name)
            continue
        excuse = lacking_reason(cell.runtime, cell.rootless, probe.name, reason)
        finding = Finding(number=probe.number, name=probe.name, reason=excuse or reason, found=reason if excuse else "")
        if excuse is not None:
            lacking.append(finding)
        elif isinstance(probe, Probe) and probe.warns:
            warnings.append(finding)
        else:
            failed.append(finding)
    return SealReport(
        verified=not failed,
        profile="full" if full else "quick",
        runtime=cell.runtime,
        observer=cell.observer,
        passed=tuple(passed),
        failed=tuple(failed),
        lacking=tuple(lacking),
        warnings=tuple(warnings),
        labels="" if failed else LABELS,
        kernel=cell.traits.kernel or f"{SHARED_KERNEL} ({os.uname().release})",
        notes=unbounded(cell),
        not_protected=not_protected(cell.runtime),
        seconds=seconds,
    )


def lacking_reason(runtime: str, rootless: bool, probe: str, finding: str) -> str | None:
    """Why a probe cannot pass on a runtime, None where it can: the finding must be wholly one that is known."""
    places = {runtime, *(("rootless",) if rootless else ())}
    for entry in _lacking():
        if entry["where"] in places and entry["probe"] == probe and re.fullmatch(entry["finding"], finding):
            return entry["reason"]
    return None


@cache
def _lacking() -> tuple[dict[str, str], ...]:
    data = read_toml("redline.seal", "data/lacking.toml")
    return tuple(data["lacking"])


def not_protected(runtime: str) -> tuple[str, ...]:
    """Return what the cells of a runtime do not protect from, whatever their probes found; none if it is unknown."""
    if runtime not in runtime_names():
        return ()
    data = read_toml("redline.seal", "data/not_protected.toml")
    return (*traits_of(runtime).not_protected, *data["every_runtime"])


def unbounded(cell: "Cell") -> tuple[str, ...]:
    """Bounds that a cell of this kind does not have."""
    if not cell.rootless:
        return ()
    return ("rootless: no cgroup bounds memory and processor time; temporary file systems and process limits do bite",)
