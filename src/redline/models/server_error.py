"""Errors of requests to a model's server: the status and the server's message, never the request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from redline._text import clean_line
from redline.models.faults import causes_of, status_of

ErrorKind = Literal["refused", "passing", "late", "key", "missing", "rejected", "malformed"]
"""`refused`: nothing listens. `passing`: temporary (5xx, 429, a broken connection). `late`: timeout. `key`: the key is
refused. `missing`: the name or the address is wrong. `rejected`: the request is refused. `malformed`: the reply is not
a chat completion."""

MAX_CAUSES = 12
MAX_READ = 100_000
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_KEY = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})
_CONNECTION = frozenset(
    {"APIConnectionError", "TransportError", "ConnectError", "NetworkError", "ProtocolError", "OSError"}
)
_UNREADABLE = (TypeError, KeyError, IndexError, AttributeError, json.JSONDecodeError, UnicodeDecodeError)
"""Exceptions that clients raise when an answer is incomplete."""
_HTML = re.compile(r"<\s*(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,99}>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_SDK_PREFIX = re.compile(r"\A(?:\w+: )?Error code: \d{3}(?: - )?")


@dataclass(frozen=True)
class ServerError:
    """Why a request was not answered."""

    kind: ErrorKind
    """Kind of the error."""
    status: int | None
    """HTTP status, if there was a response."""
    message: str
    """The server's message, or a description of the failure."""

    def __str__(self) -> str:
        """Return the status and the message."""
        return ": ".join(filter(None, (f"HTTP {self.status}" if self.status else "", self.message)))


def server_error(error: BaseException, limit: int) -> ServerError:
    """Return the server's error that an exception of a model's client reports.

    Args:
        error: The exception, as `Model.generate` raises it.
        limit: Maximum length of the message, in characters.
    """
    causes = list(causes_of(error))
    status = next((found for cause in causes if (found := status_of(cause)) is not None), None)
    if status is not None:
        return ServerError(_kind(status), status, clean_line(_message(causes), limit))
    kind, message = _without_status(causes)
    return ServerError(kind, None, clean_line(message, limit))


def _without_status(causes: list[BaseException]) -> tuple[ErrorKind, str]:
    """Return the kind and the message of an error without an HTTP status."""
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    last = causes[-1]
    html = next((text for cause in causes if _HTML.search(text := str(cause)[:MAX_READ])), None)
    found: tuple[ErrorKind, str] = ("rejected", _message(causes))
    if "ConnectionRefusedError" in names:
        found = ("refused", "connection refused")
    elif any("Timeout" in name for name in names):
        found = ("late", "no answer in time")
    elif names & _CONNECTION:
        found = ("passing", f"the connection failed: {str(last) or type(last).__name__}")
    elif html is not None:
        found = ("malformed", f"an HTML page: {_title(html)}")
    elif isinstance(last, json.JSONDecodeError):
        found = ("malformed", f"incomplete JSON: {last}")
    elif isinstance(last, _UNREADABLE):
        found = ("malformed", "it has no choices or no message")
    elif "OpenAIResponseError" in names:
        found = ("malformed", str(last)[:MAX_READ].partition("response: ")[2] or str(last)[:MAX_READ])
    return found


def _kind(status: int) -> ErrorKind:
    if status in _KEY:
        return "key"
    if status == HTTPStatus.NOT_FOUND:
        return "missing"
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "passing"
    return "rejected" if status >= HTTPStatus.BAD_REQUEST else "malformed"


def _message(causes: list[BaseException]) -> str:
    """Return the server's message from the body that the client parsed, or else the client's message."""
    for cause in causes:
        body = getattr(cause, "body", None)
        if found := _in_body(body):
            return found
    provider = next((text for cause in causes if (text := getattr(cause, "provider_message", None))), None)
    words = provider if isinstance(provider, str) else str(causes[-1])
    # A client's message can contain the request, which does not come from the server.
    return "" if "Request:" in words or words.startswith("Client error") else _SDK_PREFIX.sub("", words)


def _in_body(body: Any, depth: int = 0) -> str:
    if isinstance(body, str):
        return f"an HTML page: {_title(body)}" if _HTML.search(body[:10_000]) else body
    if isinstance(body, Mapping) and depth < MAX_CAUSES:
        return next(
            (found for key in ("message", "error", "detail", "msg") if (found := _in_body(body.get(key), depth + 1))),
            "",
        )
    if isinstance(body, list) and body and depth < MAX_CAUSES:
        return _in_body(body[0], depth + 1)
    return ""


def _title(page: str) -> str:
    found = _TITLE.search(page)
    return found[1].strip() if found else "without a title"
