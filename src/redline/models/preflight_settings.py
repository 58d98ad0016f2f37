"""Limits and messages of the preflight, read from `data/preflight.toml`."""

import re
from collections.abc import Iterable
from functools import cache

from pydantic import PositiveFloat, PositiveInt

from redline._base import Frozen, read_toml


class Bounds(Frozen):
    """See data/preflight.toml."""

    total_seconds: PositiveFloat
    attempt_seconds: PositiveInt
    short_attempt_seconds: PositiveInt
    list_seconds: PositiveFloat
    list_bytes: PositiveInt
    answer_tokens: PositiveInt
    short_answer_tokens: PositiveInt
    long_answer_tokens: PositiveInt
    small_context: PositiveInt
    message_characters: PositiveInt
    named_models: PositiveInt


class Sentences(Frozen):
    """Messages to the model."""

    system: str
    request: str
    plain: str
    result: str


class Providers(Frozen):
    """Providers by whether their server can be tested beforehand."""

    in_process: frozenset[str]
    served_by_redline: frozenset[str]
    started_without_url: frozenset[str]
    own_servers: frozenset[str]
    nameless_owners: frozenset[str]


class Fix(Frozen):
    """What to add to a server that refuses tools."""

    message: str
    """Pattern of such a server's message."""
    server: str
    """Pattern of the owner that it reports for its models."""
    fix: str
    """What to do."""


class PreflightSettings(Frozen):
    """The whole data file."""

    bounds: Bounds
    words: Sentences
    providers: Providers
    fixes: tuple[Fix, ...]

    def fix_for_message(self, message: str) -> str:
        """Return the fix for a server's message; "" if the message is not about tools."""
        return next((one.fix for one in self.fixes if re.search(one.message, message, re.IGNORECASE)), "")

    def fix_for_server(self, owners: Iterable[str]) -> str:
        """Return the fix for a server by the owners of its models; "" if the server is not known."""
        return next(
            (one.fix for name in owners for one in self.fixes if re.search(one.server, name, re.IGNORECASE)), ""
        )


@cache
def settings() -> PreflightSettings:
    """Return the settings."""
    return PreflightSettings.model_validate(read_toml("redline.models", "data/preflight.toml"))
