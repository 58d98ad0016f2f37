"""Clients of models: which have a server that can be tested, and further clients of the same server."""

import os

from inspect_ai.model import Model, get_model

from redline._providers import providers
from redline.models.preflight_settings import settings
from redline.models.server_facts import provider_of, wire_name


def can_be_tried(model: Model) -> bool:
    """Return whether a model has a server to test.

    Models that run in this process have none, and a server that has not been started cannot be tested.
    """
    known, provider = settings().providers, provider_of(model)
    if provider in known.in_process:
        return False
    url = providers()[provider].url if provider in providers() else None
    has_address = bool(model.api.base_url or (url and os.environ.get(url)))
    return has_address or provider not in known.started_without_url


def is_served_by_redline(model: Model) -> bool:
    """Return whether redline starts the model's server itself.

    Such a server can be tested only after the run has started it.
    """
    return provider_of(model) in settings().providers.served_by_redline


def attached(model: Model) -> Model:
    """Return a model with its own client of the server that redline runs for another model."""
    from redline.models.llama_cpp import direct_client  # needs the packages of the extra `local`

    return get_model(
        f"openai-api/{provider_of(model)}/{wire_name(model)}",
        config=model.config,
        base_url=model.api.base_url,
        api_key=model.api.api_key,
        memoize=False,
        http_client=direct_client(),
    )


def set_emulation(model: Model) -> bool:
    """Make Inspect emulate tool calls for a model; return whether its provider supports that."""
    if not hasattr(model.api, "emulate_tools") or getattr(model.api, "responses_api", None):
        return False
    setattr(model.api, "emulate_tools", True)  # noqa: B010 - an attribute of some providers, which the base class lacks
    return True
