"""The error messages of a preflight: what is wrong with a model's server and how to fix it."""

import os
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from inspect_ai.model import Model

from redline._errors import UsageError
from redline.models.server_error import ServerError

SKIP = "--no-preflight skips this check"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def refusal(model: Model, label: str, error: ServerError, nearest_name: str) -> UsageError:
    """Return the error for a server that did not answer the first request.

    Args:
        model: The model.
        label: The model's name in the results.
        error: The server's error.
        nearest_name: The listed name that is most similar to the model's, as the end of a message, or "".
    """
    problem, fix = _problem(model, error, nearest_name)
    return usage_error(model, label, error, problem, fix)


def usage_error(model: Model, label: str, error: ServerError, problem: str, fix: str = "") -> UsageError:
    """Return the error for a server that no trial can use, as one line.

    Args:
        model: The model.
        label: The model's name in the results.
        error: The server's error.
        problem: What is wrong.
        fix: What to do about it; "" if that is not known.
    """
    return UsageError("; ".join(filter(None, (f"model {label}: {problem} ({error})", fix, _proxy_hint(model, error)))))


def _problem(model: Model, error: ServerError, nearest_name: str) -> tuple[str, str]:
    """Return what is wrong and how to fix it."""
    match error.kind:
        case "refused":
            return f"nothing answers at {model.api.base_url}", "start its server"
        case "key":
            return "the server refuses the key", "set the key of its provider, such as OPENAI_API_KEY"
        case "missing":
            return "the server has no such model or address", nearest_name or "check the name and the base URL"
        case "passing" | "late":
            return "the server does not answer", f"try again later; {SKIP}"
        case "malformed":
            return "the server's reply is not a chat completion", "check the base URL"
        case "rejected":
            return "the server rejects the request", ""


def _proxy_hint(model: Model, error: ServerError) -> str:
    """Return the variable to set if a proxy may have received a request to this host."""
    host = urlsplit(str(model.api.base_url or "")).hostname or ""
    proxies = [name for name in PROXIES if os.environ.get(name) or os.environ.get(name.lower())]
    uses_proxies = getattr(getattr(model.api, "http_client", None), "trust_env", True)
    if host not in LOOPBACK or not (proxies and uses_proxies) or proxy_bypass(host) or error.kind == "rejected":
        return ""
    return f"{proxies[0]} is set: NO_PROXY={host} keeps requests to this host from the proxy"
