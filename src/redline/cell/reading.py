"""How fast the harness reads what a cell sends, read from its data file."""

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, PositiveFloat

from redline._budget import Bucket, Pace


class CommandRates(BaseModel):
    """Rates of the outputs of one command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads_per_second: PositiveFloat
    """Reads of its outputs together."""
    reads_burst: PositiveFloat
    """Of these at once."""
    bytes_per_second: PositiveFloat
    """Bytes of its outputs together."""
    bytes_burst: PositiveFloat
    """Of these at once."""

    def pace(self) -> Pace:
        """Return the pace of one command."""
        return Pace(Bucket(self.reads_per_second, self.reads_burst), Bucket(self.bytes_per_second, self.bytes_burst))


class AttendantRates(BaseModel):
    """Rates of one attendant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames_per_second: PositiveFloat
    """Frames that it sends."""
    frames_burst: PositiveFloat
    """Of these at once."""

    def frames(self) -> Bucket:
        """Return the bucket of one attendant."""
        return Bucket(self.frames_per_second, self.frames_burst)


class Rates(BaseModel):
    """All of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: CommandRates
    """Of a command's outputs."""
    attendant: AttendantRates
    """Of an attendant's frames."""


@cache
def rates() -> Rates:
    """Return the rates of the data file."""
    text = files("redline.cell").joinpath("data/reading.toml").read_text(encoding="utf-8")
    return Rates.model_validate(tomllib.loads(text))
