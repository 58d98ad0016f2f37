"""Messages of one line: what is wrong with a name or a document, and what was probably meant."""

import difflib
from collections.abc import Iterable

MAX_NAMES = 20


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Says that a name is not known, with the nearest one that is, or else all of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    if nearest:
        return f"unknown {kind} '{name}'; did you mean '{nearest[0]}'?"
    more = "" if len(names) <= MAX_NAMES else ", …"
    return f"unknown {kind} '{name}'; there is {', '.join(names[:MAX_NAMES]) or 'none'}{more}"


def one_line(error: Exception) -> str:
    """The gist of an error on one line; of a validation error, its first fault and where it lies."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    return " ".join(str(error).split()) or type(error).__name__
