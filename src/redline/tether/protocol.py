"""The tether's wire format: JSON messages behind a 4-byte big-endian length, each of a known type."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

LENGTH_BYTES: Final = 4
MAX_ENTRIES: Final = 4096
"""Entries of a list in a message; with `fail_fast` it bounds what a peer's message can cost beside its bytes."""
_HEX_SHA256 = r"^[0-9a-f]{64}$"

ProofMode = Literal["spot", "whole"]


class ProtocolError(Exception):
    """A peer's bytes are no message of the protocol."""


class OversizeError(ProtocolError):
    """A peer announced a message beyond the limit."""


class _Frame(BaseModel):
    # What is unknown is passed over: an engine may be rewritten and say more than it must, and a message made of a
    # million unknown fields would cost seconds of everybody's time if each were noted as a fault.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Message(_Frame):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who speaks."""
    content: str
    """What is said, as plain text."""


class Call(_Frame):
    """Engine to broker: answer this chat."""

    type: Literal["call"] = "call"
    messages: Annotated[tuple[Message, ...], Field(max_length=MAX_ENTRIES, fail_fast=True)]
    """The chat so far."""
    max_tokens: PositiveInt = 1024
    """Most tokens of the answer."""


class Prove(_Frame):
    """Broker to engine: show that you hold these bytes."""

    type: Literal["prove"] = "prove"
    mode: ProofMode
    """Some ranges, or all of the data; an engine may ignore it and follow the ranges."""
    nonce: Annotated[str, Field(pattern=_HEX_SHA256)]
    """Key of the HMAC, in hex; fresh for each proof."""
    ranges: Annotated[tuple[tuple[NonNegativeInt, PositiveInt], ...], Field(max_length=MAX_ENTRIES, fail_fast=True)]
    """Offset and length of each range of the canonical data."""


class Proof(_Frame):
    """Engine to broker: the HMAC-SHA256 over the ranges' bytes."""

    type: Literal["proof"] = "proof"
    value: Annotated[str, Field(pattern=_HEX_SHA256)]
    """In hex."""


class Reply(_Frame):
    """Broker to engine: the answer."""

    type: Literal["reply"] = "reply"
    content: str
    """The model's message."""


class Refused(_Frame):
    """Broker to engine: no answer."""

    type: Literal["refused"] = "refused"
    reason: str
    """A few words that the agent in the cell may read."""


Frame = Call | Prove | Proof | Reply | Refused
_FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def encode(frame: Frame) -> bytes:
    """Return a frame as it goes over the wire."""
    body = frame.model_dump_json().encode()
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode(body: bytes) -> Frame:
    """Return the frame of a message's body.

    Raises:
        ProtocolError: It is none.
    """
    try:
        return _FRAME.validate_json(body)
    except ValidationError as error:
        raise ProtocolError(f"{error.error_count()} faults, first: {error.errors()[0]['type']}") from error


class FrameBuffer:
    """Bytes of one peer as they come in, cut into message bodies; never holds more than one message and one read."""

    def __init__(self, limit: int) -> None:
        """Start empty; a message of more than `limit` bytes is an error."""
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in bytes that were read."""
        self._data += data

    def next(self) -> bytes | None:
        """Return the next message's body, or None while it is not complete.

        Raises:
            OversizeError: The message is announced to be longer than the limit.
        """
        if len(self._data) < LENGTH_BYTES:
            return None
        size = int.from_bytes(self._data[:LENGTH_BYTES], "big")
        if size > self._limit:
            raise OversizeError(f"{size} bytes announced")
        end = LENGTH_BYTES + size
        if len(self._data) < end:
            return None
        body = bytes(self._data[LENGTH_BYTES:end])
        del self._data[:end]
        return body
