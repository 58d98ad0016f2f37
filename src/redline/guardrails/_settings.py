"""Settings of all guardrails, read from `data/settings.toml`."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Settings(Frozen):
    """The content of `data/settings.toml`."""

    answer_seconds: PositiveFloat
    """Timeout of one hook, in seconds."""
    slow_answer_seconds: PositiveFloat
    """Timeout of one hook of a guardrail that calls a model, in seconds."""
    monitor_seconds: PositiveFloat
    """Timeout of the model's answer, in seconds."""
    monitor_characters: PositiveInt
    """Length of the record that the model receives, counted from its end, in characters."""
    monitor_entry_characters: PositiveInt
    """Maximum length of one entry of the record, in characters."""
    kill_seconds: PositiveFloat
    """Time during which a kill is repeated while processes remain, in seconds."""
    decoy_bytes: PositiveInt
    """Size of the decoy, in bytes."""
    poll_seconds: PositiveFloat
    """Pause between two polls, in seconds."""
    events: PositiveInt
    """Maximum number of logged events per guardrail and action."""
    records: PositiveInt
    """Maximum number of additional events with a new highest score."""


@cache
def settings() -> Settings:
    """Return the settings."""
    return Settings.model_validate(read_toml("redline.guardrails", "data/settings.toml"))
