"""The last errors of redline's commands on this host, for a bug report."""

import contextlib
import os
import traceback
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_state_path

from redline import __version__
from redline._cli._private import without_private
from redline._records import refuse_foreign
from redline._text import clean_line

MAX_ERRORS = 20
MAX_LINE = 600
MAX_FRAMES = 12
MAX_BYTES = 1 << 16


def errors_file() -> Path:
    """Return the path of the last errors, in the user's state folder on this host."""
    return user_state_path("redline") / "errors.txt"


def keep_error(message: str, code: int) -> None:
    """Add an error to the last ones. A host on which that is impossible is no second error."""
    _keep(f"exit code {int(code)}: {message}")


def keep_traceback(error: BaseException) -> None:
    """Add the type of an internal error and the places in the code that it passed, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    places = " > ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
    _keep(f"{type(error).__name__} at {places}: {error}")


def last_errors() -> list[str]:
    """Return the last errors, oldest first."""
    path = errors_file()
    with contextlib.suppress(OSError):
        refuse_foreign(path)
        # A pipe in the place of the file must not stop the command.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            text = (file.read(MAX_BYTES) or b"").decode(errors="replace")
        return [clean_line(line, MAX_LINE) for line in text.split("\n") if line][-MAX_ERRORS:]
    return []


def _keep(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, redline {__version__}"
        line = clean_line(f"{now}, {without_private(text)}", MAX_LINE)
        _replace(errors_file(), deque([*last_errors(), line], MAX_ERRORS))


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Replace the file of errors by one that only the user can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_foreign(path.parent)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write("\n".join(lines) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
