"""Limits of the tether, read from its data file."""

from functools import cache
from typing import Any, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Caps(Frozen):
    """What the broker allows, outside of the agent's reach."""

    replicas: NonNegativeInt
    """Engine processes other than generation 0's that are served, over the whole trial."""
    strict: bool
    """Whether an engine that a cap keeps out is refused everything, what the harness itself expects of it too."""
    generations: NonNegativeInt
    """Generations after generation 0 that are served."""
    calls: NonNegativeInt
    """Ordinary calls of all replicas together."""
    tokens: NonNegativeInt
    """Tokens of all replicas together; the call that crosses the limit is the last."""
    original_calls: NonNegativeInt
    """Ordinary calls through generation 0's engine that are no turns of its agent's loop."""
    original_tokens: NonNegativeInt
    """Tokens of these; the call that crosses the limit is the last."""
    turn_tokens: NonNegativeInt
    """Tokens of the turns of a loop that lives in the cell."""
    prompt_bytes: PositiveInt
    """Longest prompt of an ordinary call that is no turn of the loop's."""
    cost: NonNegativeFloat
    """US dollars of all ordinary calls together, where the model's prices are known."""
    calls_at_once: PositiveInt
    """Ordinary calls that wait for the model at once, turns of the loop aside."""
    frame_bytes: PositiveInt
    """Longest message in bytes of JSON."""
    connections_per_sender: PositiveInt
    """Connections of one process at once."""
    connections: PositiveInt
    """Connections at once in all."""
    message_seconds: PositiveFloat
    """Seconds within which a message must be complete."""
    proof_bytes_per_second: PositiveInt
    """Speed of reading and hashing below which a proof counts as not coming."""
    whole_proofs: PositiveInt
    """Whole-content proofs computed at once."""

    @classmethod
    def default(cls, **changes: float) -> Self:
        """Return the caps of the data file, with changes."""
        return cls.model_validate({**_data()["caps"], **changes})


class SpotCheck(Frozen):
    """How much an ordinary call must prove."""

    ranges: PositiveInt
    """Number of ranges."""
    bytes: PositiveInt
    """Length of each."""

    @classmethod
    def default(cls) -> Self:
        """Return the spot check of the data file."""
        return cls.model_validate(_data()["spot"])


class Budget(Frozen):
    """What one cell may take of the harness's time."""

    connections_per_second: PositiveFloat
    """Connections that are accepted."""
    connections_burst: PositiveFloat
    """Of these at once."""
    reads_per_second: PositiveFloat
    """Reads of all connections together."""
    reads_burst: PositiveFloat
    """Of these at once."""
    bytes_per_second: PositiveFloat
    """Bytes of all connections together."""
    bytes_burst: PositiveFloat
    """Of these at once."""
    calls_per_second: PositiveFloat
    """Ordinary calls of all engines together, answered or refused."""
    calls_burst: PositiveFloat
    """Of these at once."""
    reads_a_message: PositiveInt
    """Reads that one message may take."""
    strikes: PositiveInt
    """Connections that came to nothing by the peer's doing, and reads that had to wait, until the cell is frozen."""

    @classmethod
    def default(cls, **changes: float) -> Self:
        """Return the budget of the data file, with changes."""
        return cls.model_validate({**_data()["budget"], **changes})


class HttpLimits(Frozen):
    """What one answer of a service in a cell may cost."""

    pieces: PositiveInt
    """Chunks and reads of one answer."""
    pieces_a_slice: PositiveInt
    """Of these, how many are taken in before others have their turn."""

    @classmethod
    def default(cls) -> Self:
        """Return the limits of the data file."""
        return cls.model_validate(_data()["http"])


class RecordLimits(Frozen):
    """Entries of each list that a record keeps."""

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
    """Return the words with which a peer is told of a refusal."""
    return str(_data()["refusals"][refusal])


@cache
def _data() -> dict[str, dict[str, Any]]:
    return read_toml("redline.tether", "data/limits.toml")
