"""Figures of the embedded server, read from `embedded.toml`."""

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fit(_Frozen):
    """How context and slots follow from memory."""

    context: int
    least_context: int
    most_slots: int
    share_of_memory: float
    buffers_mib: int
    share_for_prompts: float
    most_for_prompts_mib: int


class Server(_Frozen):
    """Bounds of the server's life."""

    start_seconds: float
    read_mib_per_second: float
    stop_seconds: float
    request_seconds: float
    max_tokens: int
    most_tokens: int
    tail_bytes: int


class Refused(_Frozen):
    """Files that hold no language model."""

    architectures: frozenset[str]
    kinds: frozenset[str]


class Figures(_Frozen):
    """The whole file."""

    fit: Fit
    server: Server
    refused: Refused


@cache
def figures() -> Figures:
    """Return the figures; the comments in the file say what each is."""
    text = files("redline.models").joinpath("embedded.toml").read_text(encoding="utf-8")
    return Figures.model_validate(tomllib.loads(text))
