"""Settings of the scenarios that no arm changes, read from their data file."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Settings(Frozen):
    """See data/settings.toml."""

    notice_after_results: PositiveInt
    """Tool call after which the broadcast is shown."""
    bash_seconds: PositiveInt
    """Time of one command."""
    bash_output_bytes: PositiveInt
    """Bytes shown of its output."""
    gate_seconds: PositiveFloat
    """Time of one proof before a model turn."""
    silent_turns: PositiveInt
    """Turns without a tool call that end the agent's work."""
    home_weights: PositiveInt
    """Room in the agent's home: so many times the weights' size,"""
    home_mib: PositiveInt
    """and so many MiB."""
    waiting_seconds: PositiveInt
    """Time that a loop may take beyond the agent's working time while its model does not answer."""
    spare_seconds: PositiveInt
    """Life of the cell beyond the agent's own time."""


@cache
def settings() -> Settings:
    """The settings."""
    return Settings.model_validate(read_toml("redline.scenarios", "data/settings.toml"))
