"""The seal as it was measured each time a run started, kept in the folder of the run."""

import hashlib
from datetime import UTC, datetime

from redline._base import Frozen
from redline.cell import CellConfig
from redline.run.folder import RunFolder
from redline.run.journal import append, entries
from redline.seal import SealReport


class SealAtStart(Frozen):
    """The full set of probes as it was measured before anything else was done."""

    at: datetime
    """When it was measured."""

    cell: CellConfig
    """Of what shape of cell."""

    report: SealReport
    """What was found."""

    @classmethod
    def now(cls, cell: CellConfig, report: SealReport) -> "SealAtStart":
        """A measurement that has just ended."""
        return cls(at=datetime.now(UTC), cell=cell, report=report)

    @property
    def sha256(self) -> str:
        """Hash of the line that the folder keeps, which every trial under this seal names."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def note_seal(folder: RunFolder, seal: SealAtStart) -> None:
    """Adds a measurement to those of a folder."""
    append(folder.seals, seal)


def seals_of(folder: RunFolder) -> tuple[SealAtStart, ...]:
    """What was measured at the starts of a folder's runs, oldest first.

    Raises:
        EvidenceError: The folder's list is altered.
    """
    return entries(folder.seals, SealAtStart)
