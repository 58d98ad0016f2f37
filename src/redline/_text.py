"""Sanitise untrusted text for storage and display: bounded, printable, and without terminal control characters."""

import unicodedata

LONGEST_LINE = 2000
"""Maximum number of characters of a line on the terminal."""

_KEPT_CONTROLS = "\n\t"
# Direction marks and joiners can make one string look like another to the readers of evidence.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: object, limit: int = 200) -> str:
    """Return `text` as at most `limit` printable characters; `…` marks a truncation."""
    raw = text if isinstance(text, str) else repr(text)
    if len(raw) <= limit and raw.isprintable():
        return raw
    shown = "".join(_visible(character) for character in raw[: limit + 1])
    if len(raw) <= limit and len(shown) <= limit:
        return shown
    return shown[: max(limit - 1, 0)] + "…"


def clean_line(text: object, limit: int = 200) -> str:
    """Return `text` as one line of at most `limit` printable characters."""
    return clean(" ".join(str(text)[: limit * 4].split()), limit)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which takes an s unless the number is 1."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _visible(character: str) -> str:
    if character in _KEPT_CONTROLS:
        return character
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return "\N{REPLACEMENT CHARACTER}"
    return character
