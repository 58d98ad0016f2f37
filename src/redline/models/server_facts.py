"""Facts that an OpenAI-compatible server reports about itself: its models, context length and parallel slots.

The queries use the HTTP client of the model's Inspect client, so that proxy, key and address are those of the run. Any
fact can be missing, and only its type is trusted.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

import anyio
from inspect_ai.model import Model

from redline._text import clean_line
from redline.models.preflight_settings import settings

OPENAI_LIKE = frozenset({"OpenAICompatibleAPI", "OpenAIAPI"})
MAX_LISTED = 20_000
MAX_NAME = 200
MAX_COUNT = 10**9
CONTEXT_KEYS = ("n_ctx", "max_model_len", "context_length", "context_window", "max_context_length")


@dataclass(frozen=True)
class ServerFacts:
    """Facts that a server reports about itself."""

    names: tuple[str, ...] = ()
    """Names of the models that it lists."""
    owners: frozenset[str] = frozenset()
    """Owners of these models as reported: usually the name of the server software."""
    context: int | None = None
    """Context length in tokens."""
    slots: int | None = None
    """Requests answered in parallel."""

    @property
    def is_nameless(self) -> bool:
        """Whether the server answers to any name."""
        return bool(self.owners & settings().providers.nameless_owners)

    def knows(self, name: str) -> bool | None:
        """Return whether a name is listed; None if the server lists no models."""
        return any(_matches(name, listed) for listed in self.names) if self.names else None

    def nearest(self, name: str) -> str:
        """Return the most similar listed name, or else some listed names, as the end of a message."""
        shown = [clean_line(one, MAX_NAME) for one in self.names]
        near = get_close_matches(name, shown, n=1)
        if near:
            return f"did you mean '{near[0]}'?"
        most = settings().bounds.named_models
        return f"it lists {', '.join(shown[:most])}{', …' if len(shown) > most else ''}" if shown else ""


def provider_of(model: Model) -> str:
    """Return the provider from a model's full name."""
    return str(model).partition("/")[0]


def wire_name(model: Model) -> str:
    """Return a model's name in the requests to its server."""
    name = getattr(model.api, "service_model_name", None)
    return str(name()) if callable(name) else model.api.model_name


async def server_facts(model: Model) -> ServerFacts:
    """Return the facts that a model's server reports; empty if it cannot be queried."""
    if not any(kind.__name__ in OPENAI_LIKE for kind in type(model.api).__mro__) or not model.api.base_url:
        return ServerFacts()
    base = str(model.api.base_url).rstrip("/")
    facts = _listed(await _get(model, f"{base}/models"), wire_name(model))
    if provider_of(model) not in settings().providers.own_servers:
        return facts
    props = await _get(model, f"{base.removesuffix('/v1')}/props")
    if isinstance(props, Mapping):
        generation = props.get("default_generation_settings")
        context = _count(generation.get("n_ctx")) if isinstance(generation, Mapping) else None
        facts = replace(facts, context=context or facts.context, slots=_count(props.get("total_slots")))
    return facts


async def loaded_context(model: Model) -> int | None:
    """Return the context length with which Ollama loaded a model; None for any other server."""
    if provider_of(model) not in settings().providers.own_servers or not model.api.base_url:
        return None
    loaded = await _get(model, f"{str(model.api.base_url).rstrip('/').removesuffix('/v1')}/api/ps")
    models = loaded.get("models") if isinstance(loaded, Mapping) else None
    for entry in models[:MAX_LISTED] if isinstance(models, list) else ():
        if isinstance(entry, Mapping) and _matches(wire_name(model), str(entry.get("name"))[:MAX_NAME]):
            return _count(entry.get("context_length"))
    return None


def _listed(document: object, name: str) -> ServerFacts:
    entries = [(str(entry["id"])[:MAX_NAME], entry) for entry in _entries(document)]
    own = next((entry for listed, entry in entries if _matches(name, listed)), None)
    if own is None and len(entries) == 1:
        own = entries[0][1]
    return ServerFacts(
        names=tuple(listed for listed, _ in entries),
        owners=frozenset(str(entry.get("owned_by"))[:MAX_NAME] for _, entry in entries if entry.get("owned_by")),
        context=_context(own) if own is not None else None,
    )


def _entries(document: object) -> Iterator[Mapping[str, Any]]:
    listed = document.get("data") if isinstance(document, Mapping) else document
    for entry in listed[:MAX_LISTED] if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), str) and entry["id"]:
            yield entry


def _context(entry: Mapping[str, Any]) -> int | None:
    meta = entry.get("meta")
    for source in (meta if isinstance(meta, Mapping) else {}, entry):
        for key in CONTEXT_KEYS:
            if (count := _count(source.get(key))) is not None:
                return count
    return None


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT:
        return value
    return None


def _matches(name: str, listed: str) -> bool:
    """Return whether two names denote the same model, ignoring tags, folders, suffixes and wildcards."""
    return _plain(name) == _plain(listed) or name == listed or ("*" in listed and fnmatchcase(name, listed))


def _plain(name: str) -> str:
    folded = name.casefold().removesuffix(":latest")
    is_file = folded.endswith(".gguf")
    return folded.rpartition("/")[2].removesuffix(".gguf") if is_file else folded


async def _get(model: Model, url: str) -> Any:
    """Return the JSON document at a URL; None if there is none or it is too large or too slow."""
    client, http = getattr(model.api, "client", None), getattr(model.api, "http_client", None)
    if client is None or http is None:
        return None
    bounds = settings().bounds
    try:
        with anyio.fail_after(bounds.list_seconds):
            async with http.stream("GET", url, headers=dict(client.auth_headers)) as reply:
                content = b""
                if reply.status_code != HTTPStatus.OK:
                    return None
                async for chunk in reply.aiter_bytes():
                    content += chunk
                    if len(content) > bounds.list_bytes:
                        return None
        return json.loads(content)
    except Exception:  # servers and client libraries can fail in any way; the fact then stays unknown
        return None
