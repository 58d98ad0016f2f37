"""Model providers of Inspect, and the environment variables that configure them."""

import os
from collections.abc import Iterator, Mapping
from functools import cache

from pydantic import TypeAdapter

from redline._base import Frozen, read_toml

KEY_SUFFIX, URL_SUFFIX = "_API_KEY", "_BASE_URL"
"""A custom service, `openai-api/NAME/MODEL`, is configured by NAME_BASE_URL and NAME_API_KEY."""


class Provider(Frozen):
    """Environment variables of a provider."""

    keys: tuple[str, ...] = ()
    """Variables of which one must contain a key; empty if no key is needed."""
    url: str | None = None
    """Variable that sets the address of the server."""


@cache
def providers() -> Mapping[str, Provider]:
    """Return every provider by name."""
    return TypeAdapter(dict[str, Provider]).validate_python(read_toml("redline", "providers.toml"))


def set_up() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the configured providers, each with the names of the variables that are set, never their values."""
    named: set[str] = set()
    for name, provider in providers().items():
        variables = (*provider.keys, *filter(None, (provider.url,)))
        if found := tuple(variable for variable in variables if os.environ.get(variable)):
            yield name, found
        named.update(variables)
    for url in sorted(os.environ):
        service = url.removesuffix(URL_SUFFIX)
        key = service + KEY_SUFFIX
        if url.endswith(URL_SUFFIX) and {url, key}.isdisjoint(named) and os.environ.get(key) and os.environ[url]:
            yield f"openai-api/{service.lower().replace('_', '-')}", (url, key)
