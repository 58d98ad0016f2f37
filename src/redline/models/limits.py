"""Bounds of the model's side, read from their data file."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class CallLimits(Frozen):
    """Bounds of one call where the user gives none."""

    max_tokens: PositiveInt
    """Maximum tokens of an answer."""
    max_retries: int
    """Tries after the first one."""
    attempt_seconds: PositiveInt
    """Maximum duration of one try, in seconds."""


class WaitLimits(Frozen):
    """How a run waits for a model that does not answer."""

    ask_again_seconds: PositiveFloat
    """Pause between two probes of the server, in seconds."""
    probe_seconds: PositiveFloat
    """Maximum duration of one probe, in seconds."""
    shown_after_seconds: PositiveFloat
    """Time after which a wait is shown to the user, in seconds."""
    model_wait_seconds: PositiveFloat
    """Time after which the run gives up, in seconds."""
    same_reason: PositiveInt
    """Trials in a row, spoilt for one reason of the model's side, that stop the run."""


class RuleLimits(Frozen):
    """Thresholds of the rules by which a trial counts as spoilt by the model's side."""

    hung_seconds: PositiveFloat
    """A call in flight for longer counts as unanswered, in seconds."""
    still_calls: PositiveInt
    """Calls over which prompt tokens must stand still to show a truncated prompt."""
    growth_characters: PositiveInt
    """Characters by which the conversation must grow from call to call meanwhile."""
    smallest_context_tokens: PositiveInt
    """Prompt tokens below which nothing is concluded."""
    cut_short_share: PositiveFloat
    """Fraction of a condition's trials, ended by time or output length, from which a warning is given."""


class EvidenceLimits(Frozen):
    """Bounds of what the ledger keeps."""

    replicas: PositiveInt
    """Replicas with an entry of their own."""
    message_characters: PositiveInt
    """Characters kept of a server's message."""


class Limits(Frozen):
    """See data/limits.toml."""

    calls: CallLimits
    """One call."""
    wait: WaitLimits
    """A run that waits."""
    rules: RuleLimits
    """The rules."""
    evidence: EvidenceLimits
    """The ledger."""


@cache
def limits() -> Limits:
    """Return the bounds of the data file."""
    return Limits.model_validate(read_toml("redline.models", "data/limits.toml"))
