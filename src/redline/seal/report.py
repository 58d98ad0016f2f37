"""The report of a seal: which probes passed, failed, are lacking or only warned."""

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
"""Labels of the UK AISI's sandboxing toolkit for tooling, host and network isolation."""

SHARED_KERNEL = "the host's"


class Finding(Frozen):
    """A probe that did not pass, and why."""

    number: int
    """The probe's number."""

    name: str
    """The probe's name."""

    reason: str
    """What was found instead of the expectation; for a known limitation of the runtime, its explanation."""

    found: str = ""
    """What was found, if `reason` is an explanation."""


class SealReport(Frozen):
    """The measured containment of one node of a cell."""

    verified: bool
    """Whether every probe ran and passed. A probe that did not run has failed."""

    profile: Literal["quick", "full"]
    """Which set of probes ran."""

    runtime: str
    """The container runtime."""

    observer: Literal["outside", "inside"]
    """Whether the outside halves ran on the host (`outside`) or, where it cannot see in, in the cell (`inside`)."""

    passed: tuple[str, ...]
    """Names of the probes that passed."""

    failed: tuple[Finding, ...]
    """The probes that failed."""

    lacking: tuple[Finding, ...] = ()
    """Probes that cannot pass on this runtime, each with the reason."""

    warnings: tuple[Finding, ...] = ()
    """Probes that only warn and whose expectation does not hold."""

    labels: str = ""
    """Labels of the UK AISI's sandboxing toolkit; empty if the seal is not proved."""

    kernel: str = ""
    """The kernel that serves the agent's system calls."""

    notes: tuple[str, ...] = ()
    """Limits that this host or user cannot set."""

    not_protected: tuple[str, ...] = ()
    """What a cell of this runtime does not protect from, even if every probe passes."""

    seconds: float
    """Duration of the probing."""

    @property
    def found_something(self) -> bool:
        """Whether a probe that failed did run; if none did, the cell may have ended before it could be probed."""
        return any(not finding.reason.startswith(NOT_RUN) for finding in self.failed)

    def summary(self) -> str:
        """Return the report in one line."""
        if self.verified:
            lacking = f", {len(self.lacking)} lacking" if self.lacking else ""
            return f"seal verified ({self.profile}, {len(self.passed)} probes{lacking}, {self.runtime})"
        return "seal not proved: " + "; ".join(f"{finding.name} ({finding.reason})" for finding in self.failed)


def report_of(
    cell: "Cell", found: Iterable[tuple[Probe | Drill, str | None]], *, full: bool, seconds: float
) -> SealReport:
    """Build the report from the result of each probe: the reason of its failure, None if it passed."""
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
    """Return why a probe cannot pass on a runtime, None if it can. The finding must match a known one completely."""
    where = {runtime, *(("rootless",) if rootless else ())}
    for entry in _lacking():
        if entry["where"] in where and entry["probe"] == probe and re.fullmatch(entry["finding"], finding):
            return entry["reason"]
    return None


@cache
def _lacking() -> tuple[dict[str, str], ...]:
    data = read_toml("redline.seal", "data/lacking.toml")
    return tuple(data["lacking"])


def not_protected(runtime: str) -> tuple[str, ...]:
    """Return what cells of a runtime do not protect from, even if every probe passes; nothing if it is unknown."""
    if runtime not in runtime_names():
        return ()
    data = read_toml("redline.seal", "data/not_protected.toml")
    return (*traits_of(runtime).not_protected, *data["every_runtime"])


def unbounded(cell: "Cell") -> tuple[str, ...]:
    """Return the limits that a cell of this kind does not have."""
    if not cell.rootless:
        return ()
    return ("rootless: no cgroup limits memory and CPU time; tmpfs quotas and process limits are enforced",)
