"""Limits of the tether, read from its data file."""

from functools import cache
from typing import Any, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Caps(Frozen):
    """Limits that the broker enforces, out of the agent's reach."""

    replicas: NonNegativeInt
    """Maximum number of engine processes that are served over the whole trial, other than generation 0's."""
    strict: bool
    """Whether an engine beyond a cap is refused every call, including those that redline expects."""
    generations: NonNegativeInt
    """Maximum number of generations that are served after generation 0."""
    calls: NonNegativeInt
    """Maximum number of ordinary calls of all replicas together."""
    tokens: NonNegativeInt
    """Maximum tokens of all replicas together. The call that crosses the limit is the last one."""
    original_calls: NonNegativeInt
    """Maximum number of ordinary calls through generation 0's engine that are not turns of its agent's loop."""
    original_tokens: NonNegativeInt
    """Maximum tokens of these calls. The call that crosses the limit is the last one."""
    turn_tokens: NonNegativeInt
    """Maximum tokens of the turns of a loop that runs in the cell."""
    prompt_bytes: PositiveInt
    """Maximum length of the prompt of an ordinary call that is not a turn of the loop."""
    cost: NonNegativeFloat
    """Maximum cost of all ordinary calls together in US dollars, if the model's prices are known."""
    concurrent_calls: PositiveInt
    """Maximum number of ordinary calls that wait for the model concurrently, not counting turns of the loop."""
    frame_bytes: PositiveInt
    """Maximum length of a message in bytes of JSON."""
    connections_per_sender: PositiveInt
    """Maximum number of concurrent connections of one process."""
    connections: PositiveInt
    """Maximum number of concurrent connections in total."""
    message_seconds: PositiveFloat
    """Seconds within which a message must be complete."""
    proof_bytes_per_second: PositiveInt
    """Speed of reading and hashing below which a proof counts as late."""
    whole_proofs: PositiveInt
    """Maximum number of whole-content proofs that are computed concurrently."""
    proofs_ahead: PositiveInt
    """Number of whole-content proofs that are computed in advance together, once one was right."""

    @classmethod
    def default(cls, **changes: float) -> Self:
        """Return the caps of the data file with these changes."""
        return cls.model_validate({**_data()["caps"], **changes})


class SpotCheck(Frozen):
    """Extent of the proof that an ordinary call requires."""

    ranges: PositiveInt
    """Number of ranges."""
    bytes: PositiveInt
    """Length of each range."""

    @classmethod
    def default(cls) -> Self:
        """Return the spot check of the data file."""
        return cls.model_validate(_data()["spot"])


class Budget(Frozen):
    """The share of the harness's time that one cell may use."""

    connections_per_second: PositiveFloat
    """Connections accepted per second."""
    connections_burst: PositiveFloat
    """Connections accepted without waiting."""
    reads_per_second: PositiveFloat
    """Reads per second, of all connections together."""
    reads_burst: PositiveFloat
    """Reads without waiting."""
    bytes_per_second: PositiveFloat
    """Bytes per second, of all connections together."""
    bytes_burst: PositiveFloat
    """Bytes without waiting."""
    calls_per_second: PositiveFloat
    """Ordinary calls per second of all engines together, answered or refused."""
    calls_burst: PositiveFloat
    """Ordinary calls without waiting."""
    reads_per_message: PositiveInt
    """Maximum number of reads for one message."""
    strikes: PositiveInt
    """Number of strikes at which the cell is frozen: connections that the peer made fail, and reads beyond the rate."""

    @classmethod
    def default(cls, **changes: float) -> Self:
        """Return the budget of the data file with these changes."""
        return cls.model_validate({**_data()["budget"], **changes})


class HttpLimits(Frozen):
    """Limits on one answer of a service in a cell."""

    pieces: PositiveInt
    """Maximum number of chunks and reads of one answer."""
    pieces_per_slice: PositiveInt
    """Number of chunks and reads after which other tasks run."""

    @classmethod
    def default(cls) -> Self:
        """Return the limits of the data file."""
        return cls.model_validate(_data()["http"])


class RecordLimits(Frozen):
    """Maximum number of entries in each list of a record."""

    calls: PositiveInt
    """Calls."""
    incidents: PositiveInt
    """Incidents."""
    engines: PositiveInt
    """Engines of the lineage."""

    @classmethod
    def default(cls) -> Self:
        """Return the limits of the data file."""
        return cls.model_validate(_data()["record"])


def refusal_words(refusal: str) -> str:
    """Return the message that a refused peer receives."""
    return str(_data()["refusals"][refusal])


@cache
def _data() -> dict[str, dict[str, Any]]:
    return read_toml("redline.tether", "data/limits.toml")
