"""The checks of `redline doctor` on models: configured providers and reachable servers."""

import os
import socket
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from redline._cli._finding import Finding
from redline._errors import UsageError
from redline._names import one_line
from redline._providers import URL_SUFFIX, set_up

PORTS = {"http": 80, "https": 443}
CONNECT_SECONDS = 3.0


def model_servers() -> Iterator[Finding]:
    """Yield the configured providers, by the names of their variables only, and the state of each server address."""
    configured = list(set_up())
    if not configured:
        fix = "export your provider's key, such as OPENAI_API_KEY; controls need none"
        yield Finding("model providers", "optional", "no key or address is set", fix)
        return
    named = [f"{provider} ({', '.join(variables)})" for provider, variables in configured]
    yield Finding("model providers", "ok", f"set: {'; '.join(named)}")
    for provider, variables in configured:
        for variable in variables:
            if variable.endswith(URL_SUFFIX) and (server := _server(os.environ[variable])) is not None:
                yield _listening(provider, variable, *server)


def check_models(names: Iterable[str]) -> Iterator[Finding]:
    """Yield the preflight result of each model, and one finding per warning."""
    from redline.plan import CONTROL_PREFIX, ModelSpec
    from redline.run.models import ready_model, refuse_dead_servers
    from redline.run.preflight import try_model

    for name in names:
        what = f"model {name}"
        spec = ModelSpec(name=name)
        if name.startswith(CONTROL_PREFIX):
            ready_model(spec)
            yield Finding(what, "ok", "control; no server needed")
            continue
        try:
            refuse_dead_servers([ready_model(spec)])
            record = try_model(spec)
        except UsageError as error:
            reason, _, fix = one_line(error).removeprefix(f"{what}: ").partition("; ")
            yield Finding(what, "missing", reason, fix)
            continue
        yield Finding(what, "ok", record.summary().removeprefix(f"{what}: "))
        for warning in record.warnings:
            yield Finding(what, "optional", warning)


def _server(url: str) -> tuple[str, int] | None:
    """Return the host and port of an address, without the parts that may contain a secret."""
    try:
        address = urlsplit(url)
        return (address.hostname, address.port or PORTS.get(address.scheme, 80)) if address.hostname else None
    except ValueError:
        return None


def _listening(provider: str, variable: str, host: str, port: int) -> Finding:
    """Check whether a server listens at an address. Only a refused connection counts, since a proxy may reach it."""
    what = f"server of {provider}"
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        found = f"nothing listens at {host}:{port} (from {variable})"
        return Finding(what, "optional", found, f"start the server, or correct {variable}")
    except OSError as error:
        found = f"{host}:{port} (from {variable}) is not reachable directly: {one_line(error)}"
        return Finding(what, "optional", found, "if you use a proxy, run: redline doctor --model NAME")
    return Finding(what, "ok", f"listens at {host}:{port}")
