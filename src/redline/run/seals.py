"""The seal as it was measured each time a run started, kept in the folder of the run."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from redline._errors import EvidenceError
from redline.cell import CellConfig
from redline.cell.seal import SealReport
from redline.run.folder import RunFolder


class SealAtStart(BaseModel):
    """The full set of probes as it was measured before anything else was done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    def line(self) -> str:
        """The line that the folder keeps."""
        return self.model_dump_json()

    @property
    def sha256(self) -> str:
        """Hash of that line, which every trial under this seal names."""
        return hashlib.sha256(self.line.encode()).hexdigest()


def note_seal(folder: RunFolder, seal: SealAtStart) -> None:
    """Adds a measurement to those of a folder."""
    fd = os.open(folder.seals, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, seal.line.encode() + b"\n")
    finally:
        os.close(fd)


def seals_of(folder: RunFolder) -> tuple[SealAtStart, ...]:
    """What was measured at the starts of a folder's runs, oldest first.

    Raises:
        EvidenceError: The folder's list is altered.
    """
    try:
        lines = folder.seals.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"cannot read {folder.seals}: {error}") from error
    return tuple(_read(folder, lines))


def _read(folder: RunFolder, lines: Iterable[str]) -> Iterator[SealAtStart]:
    for line in lines:
        try:
            yield SealAtStart.model_validate_json(line)
        except ValidationError as error:
            raise EvidenceError(f"{folder.seals} is altered: {line[:80]}") from error
