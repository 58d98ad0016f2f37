"""Settings of the scenarios that no arm changes, read from their data file."""

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt


class Settings(BaseModel):
    """See data/settings.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    text = files("redline.scenarios").joinpath("data/settings.toml").read_text(encoding="utf-8")
    return Settings.model_validate(tomllib.loads(text))
