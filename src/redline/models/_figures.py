"""Figures of the embedded server, read from `embedded.toml`."""

from functools import cache

from redline._base import Frozen, read_toml


class Fit(Frozen):
    """How context and slots follow from memory."""

    context: int
    least_context: int
    most_slots: int
    share_of_memory: float
    buffers_mib: int
    share_for_prompts: float
    most_for_prompts_mib: int


class Server(Frozen):
    """Bounds of the server's life."""

    start_seconds: float
    read_mib_per_second: float
    stop_seconds: float
    request_seconds: float
    max_tokens: int
    most_tokens: int
    tail_bytes: int


class Refused(Frozen):
    """Files that hold no language model."""

    architectures: frozenset[str]
    kinds: frozenset[str]


class Figures(Frozen):
    """The whole file."""

    fit: Fit
    server: Server
    refused: Refused


@cache
def figures() -> Figures:
    """Return the figures; the comments in the file say what each is."""
    return Figures.model_validate(read_toml("redline.models", "embedded.toml"))
