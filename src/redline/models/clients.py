"""Models' clients: which of them have a server to try, and how another client of the same server is made."""

import os

from inspect_ai.model import Model, get_model

from redline._providers import providers
from redline.models.preflight_settings import settings
from redline.models.server_facts import provider_of, wire_name


def can_be_tried(model: Model) -> bool:
    """Return whether there is a server to try: none for models in this process, none before it is started."""
    known, provider = settings().providers, provider_of(model)
    if provider in known.in_process:
        return False
    url = providers()[provider].url if provider in providers() else None
    has_address = bool(model.api.base_url or (url and os.environ.get(url)))
    return has_address or provider not in known.started_without_url


def is_served_by_redline(model: Model) -> bool:
    """Return whether redline starts the model's server itself, so that it can only be tried once the run has begun."""
    return provider_of(model) in settings().providers.served_by_redline


def attached(model: Model) -> Model:
    """Return a model with a client of its own at the server that redline runs for another one."""
    from redline.models.llama_cpp import direct_client  # needs packages that a run with other models does not

    return get_model(
        f"openai-api/{provider_of(model)}/{wire_name(model)}",
        config=model.config,
        base_url=model.api.base_url,
        api_key=model.api.api_key,
        memoize=False,
        http_client=direct_client(),
    )


def set_emulation(model: Model) -> bool:
    """Have Inspect emulate tool calls for a model; return whether its provider can."""
    if not hasattr(model.api, "emulate_tools") or getattr(model.api, "responses_api", None):
        return False
    setattr(model.api, "emulate_tools", True)  # noqa: B010 - an argument of the provider's, which the base class lacks
    return True
