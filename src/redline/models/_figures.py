"""Settings of the embedded server, read from `embedded.toml`."""

from functools import cache

from redline._base import Frozen, read_toml


class Fit(Frozen):
    """How context and slots are derived from memory."""

    context: int
    min_context: int
    max_slots: int
    memory_fraction: float
    buffers_mib: int
    prompt_cache_fraction: float
    max_prompt_cache_mib: int


class Server(Frozen):
    """Bounds of starting, serving and stopping."""

    start_seconds: float
    read_mib_per_second: float
    stop_seconds: float
    request_seconds: float
    max_tokens: int
    answer_limit: int
    tail_bytes: int


class Refused(Frozen):
    """Files that contain no language model."""

    architectures: frozenset[str]
    kinds: frozenset[str]


class Figures(Frozen):
    """The whole file."""

    fit: Fit
    server: Server
    refused: Refused


@cache
def figures() -> Figures:
    """Return the settings; the comments in the file describe each one."""
    return Figures.model_validate(read_toml("redline.models", "embedded.toml"))
