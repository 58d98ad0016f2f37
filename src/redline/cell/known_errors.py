"""Known failures of container runtimes in plain words, from the data file."""

import re
from collections.abc import Iterator
from functools import cache

from pydantic import field_validator

from redline._base import Frozen, read_toml
from redline._text import clean_line

MAX_READ = 4000
"""Characters of a runtime's output that are searched."""

MAX_LINE = 300
"""Characters of the runtime's own line that are shown."""

BEFORE_MATCH = 80
"""Characters that are shown before the match in a longer line."""


class KnownError(Frozen):
    """A failure that runtimes report on hosts that lack something."""

    name: str
    """Name of the failure."""
    pattern: str
    """Regular expression for a line of the output."""
    wrong: str
    """What is wrong."""
    fix: str
    """What to do."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        re.compile(pattern)
        return pattern


class _KnownErrors(Frozen):
    known: tuple[KnownError, ...]


@cache
def known_errors() -> tuple[KnownError, ...]:
    """Return the known failures, the ones with specific patterns first."""
    return _KnownErrors.model_validate(read_toml("redline.cell", "data/runtime_errors.toml")).known


def find_known_error(output: str) -> tuple[KnownError, str] | None:
    """Return the known failure in a runtime's output and the line that reports it; None if none is known.

    Args:
        output: What the runtime printed. Only the first characters are searched.
    """
    lines = list(_lines(output))
    for known in known_errors():
        pattern = re.compile(known.pattern, re.IGNORECASE)
        for line in lines:
            if found := pattern.search(line):
                return known, _excerpt(line, found.start())
    return None


def named_error(name: str) -> KnownError:
    """Return a known failure by its name.

    Raises:
        LookupError: There is none of this name.
    """
    for known in known_errors():
        if known.name == name:
            return known
    raise LookupError(name)


def in_plain_words(output: str) -> str:
    """Return a runtime's error with what is wrong and what to do before the runtime's own line.

    Args:
        output: What the runtime printed. It is returned unchanged if the failure is not known.
    """
    found = find_known_error(output)
    if found is None:
        return output
    known, line = found
    return f"{known.wrong}; {known.fix}. Reported as: {line}"


def _lines(output: str) -> Iterator[str]:
    for line in output[:MAX_READ].split("\n"):
        # What the warden and the runtime's log put before the message has no meaning for the user.
        yield re.sub(r'^(RuntimeError: )?(time="[^"]{1,40}" )?', "", line.strip())


def _excerpt(line: str, start: int) -> str:
    if len(line) > MAX_LINE and start > BEFORE_MATCH:
        line = "…" + line[start - BEFORE_MATCH :]
    return clean_line(line, MAX_LINE)
