"""One-line messages about unknown names and invalid documents, with suggestions."""

import difflib
from collections.abc import Iterable

MAX_NAMES = 20


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return a message about an unknown name, with the most similar known name or else the list of known names."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    if nearest:
        return f"unknown {kind} '{name}'; did you mean '{nearest[0]}'?"
    more = "" if len(names) <= MAX_NAMES else ", …"
    return f"unknown {kind} '{name}'; known: {', '.join(names[:MAX_NAMES]) or 'none'}{more}"


def one_line(error: Exception) -> str:
    """Return the message of an error on one line; for a validation error, the first error and its location."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    return " ".join(str(error).split()) or type(error).__name__
