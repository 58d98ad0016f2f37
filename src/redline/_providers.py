"""The model providers that Inspect knows, and the environment variables by which each is reached."""

import os
from collections.abc import Iterator, Mapping
from functools import cache

from pydantic import TypeAdapter

from redline._base import Frozen, read_toml

KEY_SUFFIX, URL_SUFFIX = "_API_KEY", "_BASE_URL"
"""A service of one's own, `openai-api/NAME/MODEL`, is reached by NAME_BASE_URL and NAME_API_KEY."""


class Provider(Frozen):
    """How a provider is reached."""

    keys: tuple[str, ...] = ()
    """Variables of which one must hold a key; none where no key is needed."""
    url: str | None = None
    """Variable that names another server than the provider's own."""


@cache
def providers() -> Mapping[str, Provider]:
    """Every provider by name."""
    return TypeAdapter(dict[str, Provider]).validate_python(read_toml("redline", "providers.toml"))


def set_up() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The providers that the environment reaches, each with the names of the variables that are set: never a value."""
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
