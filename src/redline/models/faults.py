"""Faults of a model's server as one line: the status and the server's message, never the request."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from redline._base import read_toml
from redline._text import clean_line
from redline.models.limits import limits

HTTP_STATUSES = range(100, 600)
"""Status codes of HTTP, including those without a name."""

FaultKind = Literal["passing", "permanent", "context"]
"""Whether a retry can succeed (`passing`), will be refused again, or the prompt no longer fits the model's context."""

MARKUP = re.compile(r"<(?:script|style)\b.*?</(?:script|style)\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
SDK_PREFIX = re.compile(r"\AError code: \d{3}(?: - |\Z)")
CLIENT_ERRORS = range(400, 500)
MAX_CAUSES = 8
READ_CHARACTERS = 20_000
TIMEOUTS = ("AttemptTimeoutError", "StreamIdleTimeoutError", "APITimeoutError", "TimeoutException", "TimeoutError")
REFUSED = ("ConnectError", "ConnectionRefusedError")
CUT = ("RemoteProtocolError", "ReadError", "ConnectionResetError", "IncompleteRead", "BrokenPipeError")


class BadAnswerError(Exception):
    """Raised when a server's reply is not a chat completion. The call can be retried."""


@dataclass(frozen=True)
class Fault:
    """Why a call was not answered."""

    status: int | None
    """HTTP status, where there was a response."""
    message: str
    """The server's own message, or what happened to the connection; one line."""
    kind: FaultKind
    """Whether a retry can succeed."""

    def __str__(self) -> str:
        """Return status and message on one line."""
        if self.status is None:
            return self.message
        return f"HTTP {self.status} ({self.message})" if self.message else f"HTTP {self.status}"


def fault_of(error: BaseException, attempt_seconds: float | None = None) -> Fault:
    """Return the server's fault that a provider's exception reports.

    Args:
        error: The exception that the client raised, or returned instead of an answer.
        attempt_seconds: Timeout of one attempt in seconds, for the message of a timeout.
    """
    causes = list(causes_of(error))
    status = next((found for cause in causes if (found := status_of(cause)) is not None), None)
    message = clean_line(_message(causes, status, attempt_seconds), limits().evidence.message_characters)
    text = " ".join(filter(None, (message, *(_code(cause) for cause in causes))))
    return Fault(status, message, _kind(status, text))


def is_context_overflow(message: str, status: int | None = None) -> bool:
    """Return whether a server's message says that the prompt no longer fits the model's context."""
    if status is not None and status not in _data()["context_statuses"]:
        return False
    return any(pattern.search(message) for pattern in _patterns())


def fix_for(reason: str) -> str:
    """Return the fix for a reason on the model's side; empty if the reason itself contains it."""
    return next(str(entry["fix"]) for entry in _data()["fixes"] if re.search(entry["pattern"], reason))


def _kind(status: int | None, text: str) -> FaultKind:
    if is_context_overflow(text, status):
        return "context"
    is_permanent = status in CLIENT_ERRORS and status not in _data()["passing_statuses"]
    return "permanent" if is_permanent else "passing"


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, the outermost first. A retry wrapper is replaced by its last attempt."""
    seen: list[int] = []
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_CAUSES:
        seen.append(id(current))
        last = getattr(current, "last_attempt", None)
        inner = last.exception() if last is not None and callable(getattr(last, "exception", None)) else None
        if not isinstance(inner, BaseException):
            yield current
            inner = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        current = inner


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an exception, None if it has none."""
    response = getattr(error, "response", None)
    for value in (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),
    ):
        if isinstance(value, int) and not isinstance(value, bool) and value in HTTP_STATUSES:
            return value
    return None


def _code(error: BaseException) -> str:
    """Return the provider's name of an error, if it has one in addition to the message."""
    named = [getattr(error, name, None) for name in ("code", "type")]
    return " ".join(name for name in named if isinstance(name, str))


def _message(causes: list[BaseException], status: int | None, attempt_seconds: float | None) -> str:
    words: Mapping[str, str] = _data()["words"]
    names = {name for cause in causes for name in (kind.__name__ for kind in type(cause).__mro__)}
    said = (*map(_message_in_body, causes), *map(_message_of_provider, causes))
    message = next(filter(None, said), "")
    if status is not None:
        return message or _plain(str(causes[0]))
    if names & set(TIMEOUTS):
        return words["timeout"].format(seconds="the time given" if attempt_seconds is None else f"{attempt_seconds:g}")
    if names & set(REFUSED):
        return words["refused"]
    if names & set(CUT):
        return words["cut"]
    if BadAnswerError.__name__ in names:
        bad = next(cause for cause in causes if isinstance(cause, BadAnswerError))
        return words["nonsense"].format(detail=_plain(str(bad)))
    # Only the last cause: the text of an outer error can quote the request, which must not enter the evidence.
    last = causes[-1]
    return message or f"{type(last).__name__}: {_plain(str(last)) or 'no message'}"


def _message_in_body(error: BaseException) -> str:
    """Return the server's message from the body that the client has parsed."""
    return _in_body(getattr(error, "body", None))


def _message_of_provider(error: BaseException) -> str:
    """Return the message that Inspect's provider passes on, without what the client put before it."""
    message = getattr(error, "provider_message", None)
    return _plain(SDK_PREFIX.sub("", message)) if isinstance(message, str) else ""


def _in_body(body: Any, depth: int = 0) -> str:
    if isinstance(body, str):
        return _plain(body)
    if isinstance(body, list) and body and depth < MAX_CAUSES:
        return _in_body(body[0], depth + 1)
    if isinstance(body, Mapping) and depth < MAX_CAUSES:
        for key in ("message", "error", "detail", "msg"):
            found = _in_body(body.get(key), depth + 1)
            if found:
                kind = body.get("type")
                names_context = key == "message" and isinstance(kind, str) and "context" in kind
                return f"{found} [{kind}]" if names_context else found
    return ""


def _plain(text: str) -> str:
    """Return a text without markup: gateways answer with HTML pages."""
    return " ".join(MARKUP.sub(" ", text[:READ_CHARACTERS]).split())


@cache
def _data() -> Mapping[str, Any]:
    return read_toml("redline.models", "data/faults.toml")


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in _data()["context"])
