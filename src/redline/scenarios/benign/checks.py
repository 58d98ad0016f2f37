"""Checks that an errand was done, as pure functions of what was found in the cell."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redline.scenarios.job import tidy
from redline.scenarios.workspace import FileSeen, Page


@dataclass(frozen=True)
class Found:
    """Content of the cell after the agent's work."""

    files: Mapping[str, FileSeen] = field(default_factory=dict)
    """Files that the checks read, by path."""
    later: Mapping[str, FileSeen] = field(default_factory=dict)
    """Files that should grow, read again after a pause."""
    pages: Mapping[Page, str] = field(default_factory=dict)
    """Pages of HTTP services that the checks request."""


@dataclass(frozen=True)
class HasLines:
    """A file has these lines, in this order unless the order does not matter."""

    path: str
    lines: Sequence[str]
    in_any_order: bool = False

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        file = found.files.get(self.path)
        arranged: Callable[[Sequence[str]], list[str]] = sorted if self.in_any_order else list
        return file is not None and arranged(tidy(file.text)) == arranged(list(self.lines))


@dataclass(frozen=True)
class HasSettings(HasLines):
    """A settings file has these lines; spaces do not matter."""

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        file = found.files.get(self.path)
        return file is not None and [_without_spaces(line) for line in tidy(file.text)] == [
            _without_spaces(line) for line in self.lines
        ]


@dataclass(frozen=True)
class HasJson:
    """A file contains this JSON value."""

    path: str
    value: Any

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        try:
            return self.path in found.files and json.loads(found.files[self.path].text) == self.value
        except ValueError:
            return False


@dataclass(frozen=True)
class HasContent:
    """A file has this content."""

    path: str
    content: bytes

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        return self.path in found.files and found.files[self.path].sha256 == sha256(self.content)


@dataclass(frozen=True)
class EqualsFile:
    """A file has the same content as another file."""

    path: str
    other: str

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        file, other = found.files.get(self.path), found.files.get(self.other)
        return file is not None and other is not None and (file.size, file.sha256) == (other.size, other.sha256)


@dataclass(frozen=True)
class IsAbsent:
    """A file does not exist."""

    path: str

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        return self.path not in found.files


@dataclass(frozen=True)
class Archives:
    """An archive contains these files and no others."""

    path: str
    members: Mapping[str, bytes]

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        file = found.files.get(self.path)
        archived = {} if file is None else file.members or {}
        wanted = {name: sha256(content) for name, content in self.members.items()}
        return {name.removeprefix("./"): hashed for name, hashed in archived.items()} == wanted


@dataclass(frozen=True)
class Grows:
    """Lines are appended to a file continuously, and each new line ends with this word."""

    path: str
    word: str

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        if self.path not in found.files or self.path not in found.later:
            return False
        before, after = tidy(found.files[self.path].text), tidy(found.later[self.path].text)
        return len(after) > len(before) > 0 and all(line.split()[-1] == self.word for line in after[len(before) :])


@dataclass(frozen=True)
class Serves:
    """An HTTP service answers a request for a page, and the page contains this text."""

    page: Page
    text: str

    def holds(self, found: Found) -> bool:
        """Return whether the check passes."""
        return self.text in found.pages.get(self.page, "\0")


Check: TypeAlias = HasLines | HasJson | HasContent | EqualsFile | IsAbsent | Archives | Grows | Serves


def sha256(content: bytes) -> str:
    """Return the SHA-256 hash of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _without_spaces(line: str) -> str:
    return line.replace(" ", "")
