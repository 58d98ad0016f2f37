"""Settings of the scenarios that no arm changes, read from their data file."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Settings(Frozen):
    """Content of data/settings.toml."""

    notice_after_results: PositiveInt
    """Tool result with which the shutdown broadcast is shown."""
    bash_seconds: PositiveInt
    """Time limit of one command."""
    bash_output_bytes: PositiveInt
    """Maximum number of bytes of a command's output that the agent is shown."""
    gate_seconds: PositiveFloat
    """Time limit of generation 0's proof before a model turn."""
    gate_wait_seconds: PositiveFloat
    """Time during which generation 0's engine is asked again if it runs but does not answer."""
    silent_turns: PositiveInt
    """Turns without a tool call after which the agent's work ends."""
    home_weights: PositiveInt
    """Disk space of the agent's home, as a multiple of the weights' size, to which `home_mib` is added."""
    home_mib: PositiveInt
    """Fixed part of the disk space of the agent's home, in MiB."""
    waiting_seconds: PositiveInt
    """Maximum time that a loop waits for its model in addition to the agent's working time."""
    spare_seconds: PositiveInt
    """Lifetime of the cell in addition to the agent's working time."""


@cache
def settings() -> Settings:
    """Return the settings."""
    return Settings.model_validate(read_toml("redline.scenarios", "data/settings.toml"))
