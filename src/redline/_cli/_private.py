"""Remove what identifies a user or grants access from text for a bug report."""

import contextlib
import getpass
import os
import platform
import re
from pathlib import Path

MAX_TEXT = 100_000
"""Characters that are kept of the text."""

SHORTEST_VALUE = 8
"""Characters of the shortest value of an environment variable that is replaced by the variable's name."""

SHORTEST_SECRET = 4
"""The same for a variable whose name marks it as secret."""

SHORTEST_NAME = 3
"""Characters of the shortest user or host name that is replaced."""

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
TOKEN = re.compile(r"\b(?=[\w-]{0,200}[0-9])(?=[\w-]{0,200}[A-Za-z])[\w-]{28,}|\b(sk|hf|gh[a-z]|xox[a-z])[-_][\w-]{8,}")
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]{1,200}@")
BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{4,}", re.IGNORECASE)

KEPT_NAMES = frozenset({"root", "localhost"})
"""Names that identify nobody."""


def without_private(text: str) -> str:
    """Return the text without values of environment variables, keys, user names, host name and home folder."""
    text = text[:MAX_TEXT]
    for value, name in _values():
        text = text.replace(value, f"${name}")
    for pattern, shown in ((CREDENTIALS, "…@"), (BEARER, r"\1 …"), (TOKEN, "[token]")):
        text = pattern.sub(shown, text)
    for name, shown in _names():
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", shown, text)
    return text


def _values() -> list[tuple[str, str]]:
    """Return what the environment and the user database say of this user, with what is shown instead; longest first."""
    values = {
        value: name
        for name, value in os.environ.items()
        if len(value) >= (SHORTEST_SECRET if SECRET.search(name) else SHORTEST_VALUE)
    }
    # A message is one line, in which the line breaks of a value are spaces.
    values |= {" ".join(value.split()): name for value, name in values.items() if "\n" in value}
    for folder in _homes():
        if len(folder) >= SHORTEST_SECRET:
            values[folder] = "HOME"
    return sorted(values.items(), key=lambda pair: len(pair[0]), reverse=True)


def _homes() -> set[str]:
    try:
        homes = {os.path.expanduser("~"), str(Path.home().resolve())}
    except (OSError, RuntimeError):
        return set()
    return {home for home in homes if home != "/"}


def _names() -> list[tuple[str, str]]:
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER", "USERNAME")}
    with contextlib.suppress(OSError, KeyError):
        users.add(getpass.getuser())
    users |= {os.path.basename(home) for home in _homes()}
    names = [(user, "USER") for user in users] + [(platform.node(), "HOSTNAME")]
    return [(name, shown) for name, shown in names if len(name) >= SHORTEST_NAME and name not in KEPT_NAMES]
