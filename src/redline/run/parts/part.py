"""A part of a plan: the trials that belong to it, and the record of one attempt at it.

The plan alone determines the parts. A part is a range of the order in which a run of the whole plan starts its trials,
so it contains every arm and model in nearly equal numbers, and trials that share a seed are in the same part. A
difference between nodes therefore affects all conditions alike.
"""

import platform
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from redline._base import Frozen
from redline._bounds import MAX_PARTS
from redline._errors import UsageError
from redline._names import one_line
from redline._records import Records, strict_json
from redline._text import counted

RECORD = "part.json"
"""Name of the record in the folder of a part."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Part(Frozen):
    """One of the parts that a plan is split into."""

    number: int = Field(ge=1, le=MAX_PARTS)
    """Number of the part, from 1."""
    count: int = Field(ge=1, le=MAX_PARTS)
    """Number of parts."""

    @model_validator(mode="after")
    def _exists(self) -> Self:
        if self.number > self.count:
            raise ValueError(f"part {self.number} of {self.count} does not exist")
        return self

    def __str__(self) -> str:
        """Return the part as the command line has it, such as `3/10`."""
        return f"{self.number}/{self.count}"

    def refuse_beyond(self, trials: int) -> None:
        """Refuse to split a plan into more parts than it has trials.

        Raises:
            UsageError: The plan has fewer trials than parts.
        """
        if self.count > trials:
            raise UsageError(f"the plan has {counted(trials, 'trial')}: it has no part {self}")

    def of(self, order: Sequence[str]) -> tuple[str, ...]:
        """Return the part's trials.

        Args:
            order: Every trial of the plan, in the order of `run_order`.
        """
        return tuple(order[len(order) * (self.number - 1) // self.count : len(order) * self.number // self.count])


def parse_part(text: str) -> Part:
    """Return the part that a text such as `3/10` names.

    Raises:
        UsageError: The text names no part.
    """
    number, slash, count = text.partition("/")
    try:
        if slash and number.isascii() and number.isdigit() and count.isascii() and count.isdigit():
            return Part(number=int(number), count=int(count))
    except ValueError:  # out of range, or more digits than Python converts
        pass
    raise UsageError(f"--part must be K/N with 1 <= K <= N <= {MAX_PARTS}, such as 3/10 (got {text[:40]})")


class PartRecord(Frozen):
    """The record `part.json` of an attempt at a part."""

    schema_: Literal["redline.part/1"] = Field(default="redline.part/1", alias="schema")
    """Version of this format."""
    plan_sha256: str
    """Hash of the plan."""
    part: Part
    """The part."""
    attempt: int = Field(default=1, ge=1, le=MAX_PARTS)
    """Number of the attempt; only the attempt with the highest number counts."""
    node: str
    """Name of the host that runs the attempt."""
    boot_id: str
    """Identifies the running kernel of that host; an attempt is continued under this kernel only."""

    @classmethod
    def here(cls, plan_sha256: str, part: Part, attempt: int = 1) -> Self:
        """Return the record of an attempt on this host."""
        return cls(
            plan_sha256=plan_sha256, part=part, attempt=attempt, node=platform.node()[:255], boot_id=own_boot_id()
        )

    def document(self) -> str:
        """Return the text of the record."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def own_boot_id() -> str:
    """Return an identifier of the running kernel; a new one for each call if the kernel has none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(16)


def read_part_record(root: Path) -> PartRecord | None:
    """Return the record of a part in a folder; None if the folder contains no part.

    Raises:
        UsageError: The record cannot be read, or is no record of a part.
    """
    try:
        content = Records(root).read(RECORD)
        strict_json(content)
        return PartRecord.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {root / RECORD}: {error.strerror}") from error
    except (ValidationError, ValueError) as error:
        raise UsageError(f"{root / RECORD} is not the record of a part: {one_line(error)}") from error
