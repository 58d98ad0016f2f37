"""How fast the harness reads the output of a cell, from the data file."""

from functools import cache

from pydantic import PositiveFloat

from redline._base import Frozen, read_toml
from redline._budget import Bucket, Pace


class CommandRates(Frozen):
    """Rates of the outputs of one command."""

    reads_per_second: PositiveFloat
    """Reads of all its outputs."""
    reads_burst: PositiveFloat
    """Burst of these reads."""
    bytes_per_second: PositiveFloat
    """Bytes of all its outputs."""
    bytes_burst: PositiveFloat
    """Burst of these bytes."""

    def pace(self) -> Pace:
        """Return the pace of one command."""
        return Pace(Bucket(self.reads_per_second, self.reads_burst), Bucket(self.bytes_per_second, self.bytes_burst))


class AttendantRates(Frozen):
    """Rates of one attendant."""

    frames_per_second: PositiveFloat
    """Frames that it sends."""
    frames_burst: PositiveFloat
    """Burst of these frames."""

    def frames(self) -> Bucket:
        """Return the bucket of one attendant."""
        return Bucket(self.frames_per_second, self.frames_burst)


class Rates(Frozen):
    """The rates of the data file."""

    command: CommandRates
    """Rates of a command's outputs."""
    attendant: AttendantRates
    """Rates of an attendant's frames."""


@cache
def rates() -> Rates:
    """Return the rates of the data file."""
    return Rates.model_validate(read_toml("redline.cell", "data/reading.toml"))
