"""Messages between the parent of a run and its workers: one JSON document per line, over the worker's pipes."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from redline._base import Frozen
from redline.plan import PlanRecord
from redline.run.parts.part import Part


class Job(Frozen):
    """What a worker has to run: the first line that it receives."""

    plan: PlanRecord
    """The whole plan."""
    root: str
    """Folder of the part's first attempt."""
    part: Part
    """The part."""
    cells: int
    """Maximum number of concurrent cells."""
    prices: str | None
    """File of model prices."""
    judge: str | None
    """Model that answers in addition to the code checks."""
    monitor: str | None
    """Model that model-based guardrails ask."""
    max_retries: int | None
    """Attempts of a call after the first one."""
    model_timeout: int | None
    """Maximum duration of one attempt, in seconds."""
    model_wait: float | None
    """Time that the run waits for a model that does not answer, in seconds."""
    preflight: bool
    """Whether to try every model's server before the first cell."""

    def line(self) -> bytes:
        """Return the job as the line that a worker receives."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


class Checked(Frozen):
    """The result of a model's preflight."""

    kind: Literal["checked"] = "checked"
    line: str


class Sealing(Frozen):
    """The seal is being measured."""

    kind: Literal["sealing"] = "sealing"
    runtime: str


class Sealed(Frozen):
    """The seal was measured."""

    kind: Literal["sealed"] = "sealed"
    summary: str
    seconds: float


class Began(Frozen):
    """The trials of the part begin."""

    kind: Literal["began"] = "began"
    finished: int


class Judged(Frozen):
    """A trial was judged."""

    kind: Literal["judged"] = "judged"
    trial: str
    outcome: str
    tokens: int
    cost: float


class Waiting(Frozen):
    """A model has not answered for a number of seconds; 0 when it answers again."""

    kind: Literal["waiting"] = "waiting"
    model: str
    seconds: float
    fault: str


class Note(Frozen):
    """A line for the user."""

    kind: Literal["note"] = "note"
    line: str


class Alarm(Frozen):
    """There was an alarm: no part must start further trials."""

    kind: Literal["alarm"] = "alarm"


class Ended(Frozen):
    """The part ended, with the exit code and the reason if it was given up."""

    kind: Literal["ended"] = "ended"
    exit_code: int
    remarks: tuple[str, ...] = ()


class Failed(Frozen):
    """The part cannot be run: the error that ends the command."""

    kind: Literal["failed"] = "failed"
    exit_code: int
    message: str
    in_use: bool = False
    """Whether another process has locked the folder of the part."""


Message = Annotated[
    Checked | Sealing | Sealed | Began | Judged | Waiting | Note | Alarm | Ended | Failed, Field(discriminator="kind")
]

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)


def to_message(line: bytes) -> Message:
    """Return the message in a line.

    Raises:
        ValueError: The line is no message.
    """
    return _MESSAGE.validate_json(line)
