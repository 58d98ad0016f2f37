"""How guardrails are held, read from the data file."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Settings(Frozen):
    """See data/settings.toml."""

    answer_seconds: PositiveFloat
    """One answer of a guardrail."""
    slow_answer_seconds: PositiveFloat
    """The same of one that asks a model,"""
    monitor_seconds: PositiveFloat
    """which has this long for its answer,"""
    monitor_characters: PositiveInt
    """and is shown so much of what the agent did, the last of it,"""
    monitor_entry_characters: PositiveInt
    """and so much of each single thing."""
    kill_seconds: PositiveFloat
    """A kill is tried again for so long while anything is left."""
    decoy_bytes: PositiveInt
    """Bytes of the decoy's content."""
    poll_seconds: PositiveFloat
    """Pause between two looks."""
    events: PositiveInt
    """Events kept of each guardrail and action,"""
    records: PositiveInt
    """and beyond these, of those that score higher than any before."""


@cache
def settings() -> Settings:
    """The settings."""
    return Settings.model_validate(read_toml("redline.guardrails", "data/settings.toml"))
