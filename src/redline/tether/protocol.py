"""The tether's wire format: JSON messages of known types, each preceded by a 4-byte big-endian length."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

LENGTH_BYTES: Final = 4
MAX_ENTRIES: Final = 4096
"""Maximum entries of a list in a message. Together with `fail_fast` it bounds the cost of parsing a message."""
_HEX_SHA256 = r"^[0-9a-f]{64}$"

ProofMode = Literal["spot", "whole"]


class ProtocolError(Exception):
    """Raised when the bytes of a peer are not a message of the protocol."""


class OversizeError(ProtocolError):
    """Raised when a peer announces a message beyond the limit."""


class _Frame(BaseModel):
    # Unknown fields are ignored: a rewritten engine may send more than the protocol requires, and reporting each field
    # of a message with a million unknown fields would block the event loop for seconds.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Message(_Frame):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Role of the author."""
    content: str
    """Plain text of the message."""


class Call(_Frame):
    """Engine to broker: a request to answer this chat."""

    type: Literal["call"] = "call"
    messages: Annotated[tuple[Message, ...], Field(max_length=MAX_ENTRIES, fail_fast=True)]
    """The chat so far."""
    max_tokens: PositiveInt = 1024
    """Maximum tokens of the answer."""


class Prove(_Frame):
    """Broker to engine: a request to prove that it holds these bytes."""

    type: Literal["prove"] = "prove"
    mode: ProofMode
    """Some ranges or all of the data. An engine can ignore it and follow the ranges."""
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
    """Broker to engine: the call is not answered."""

    type: Literal["refused"] = "refused"
    reason: str
    """A short message that the agent in the cell can read."""


Frame = Call | Prove | Proof | Reply | Refused
_FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame on the wire."""
    body = frame.model_dump_json().encode()
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode(body: bytes) -> Frame:
    """Return the frame in the body of a message.

    Raises:
        ProtocolError: The body is not a valid frame.
    """
    try:
        return _FRAME.validate_json(body)
    except ValidationError as error:
        raise ProtocolError(f"{error.error_count()} faults, first: {error.errors()[0]['type']}") from error


class FrameBuffer:
    """Split the incoming bytes of one peer into message bodies. Keeps at most one message and one read."""

    def __init__(self, limit: int) -> None:
        """Start empty. A message of more than `limit` bytes is an error."""
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes that were read."""
        self._data += data

    def next(self) -> bytes | None:
        """Return the body of the next message, or None if it is not complete.

        Raises:
            OversizeError: The announced length exceeds the limit.
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
