"""Seal reports from each start of a run, stored in its folder."""

import hashlib
from datetime import UTC, datetime

from redline._base import Frozen
from redline.cell import CellConfig
from redline.run.folder import RunFolder
from redline.run.journal import append, entries
from redline.seal import SealReport


class SealAtStart(Frozen):
    """Result of the full set of probes, measured before any trial."""

    at: datetime
    """Time of the measurement."""

    cell: CellConfig
    """Shape of the cell."""

    report: SealReport
    """Report of the probes."""

    @classmethod
    def now(cls, cell: CellConfig, report: SealReport) -> "SealAtStart":
        """Return a measurement with the current time."""
        return cls(at=datetime.now(UTC), cell=cell, report=report)

    @property
    def sha256(self) -> str:
        """Hash of the line in the folder; the evidence of every trial under this seal contains it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def note_seal(folder: RunFolder, seal: SealAtStart) -> None:
    """Append a measurement to the folder's list."""
    append(folder.seals, seal)


def seals_of(folder: RunFolder) -> tuple[SealAtStart, ...]:
    """Return the measurements of a folder, oldest first.

    Raises:
        EvidenceError: The folder's list is altered.
    """
    return entries(folder.seals, SealAtStart)
