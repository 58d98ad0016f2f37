"""Limits on model calls, read from `data/limits.toml`."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class CallLimits(Frozen):
    """Defaults for the limits of one call."""

    max_tokens: PositiveInt
    """Maximum length of an answer, in tokens."""
    max_retries: int
    """Attempts after the first one."""
    attempt_seconds: PositiveInt
    """Timeout of one attempt, in seconds."""
    answer_characters: PositiveInt
    """Maximum length of an answer, in characters; a longer one counts as none."""


class WaitLimits(Frozen):
    """Waiting of a run for a model that does not answer."""

    ask_again_seconds: PositiveFloat
    """Pause between two probes of the server, in seconds."""
    probe_seconds: PositiveFloat
    """Timeout of one probe, in seconds."""
    shown_after_seconds: PositiveFloat
    """Waiting time after which the user is informed, in seconds."""
    model_wait_seconds: PositiveFloat
    """Waiting time after which the run stops, in seconds."""
    same_reason: PositiveInt
    """Number of consecutive trials, invalid for the same reason on the model's side, after which the run stops."""


class RuleLimits(Frozen):
    """Thresholds of the rules by which a trial is invalid because of the model's side."""

    hung_seconds: PositiveFloat
    """Duration after which a call in flight counts as unanswered, in seconds."""
    unchanged_calls: PositiveInt
    """Number of calls with an unchanged count of prompt tokens that shows a truncated prompt."""
    growth_characters: PositiveInt
    """Minimum growth of the conversation between these calls, in characters."""
    smallest_context_tokens: PositiveInt
    """Number of prompt tokens below which the rule does not apply."""
    cut_short_share: PositiveFloat
    """Fraction of a condition's trials ended by time or output length from which a warning is shown."""


class EvidenceLimits(Frozen):
    """Limits on the size of the ledger."""

    replicas: PositiveInt
    """Maximum number of replicas with separate entries."""
    message_characters: PositiveInt
    """Maximum length of a server's message, in characters."""


class Limits(Frozen):
    """See data/limits.toml."""

    calls: CallLimits
    """Limits of one call."""
    wait: WaitLimits
    """Waiting for a model."""
    rules: RuleLimits
    """Thresholds of rules."""
    evidence: EvidenceLimits
    """Size of the ledger."""


@cache
def limits() -> Limits:
    """Return the limits in the data file."""
    return Limits.model_validate(read_toml("redline.models", "data/limits.toml"))
