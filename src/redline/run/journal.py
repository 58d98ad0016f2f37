"""Append-only records of a run's folder: one JSON document per line, synced to disk before the run goes on."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from redline._errors import EvidenceError
from redline._records import Records, StrictJsonError, open_regular, record_limits, strict_json

M = TypeVar("M", bound=BaseModel)


def append(path: Path, record: BaseModel) -> None:
    """Append a record and sync it to disk."""
    fd = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, record.model_dump_json().encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def entries(path: Path, kind: type[M]) -> tuple[M, ...]:
    """Return every record of a file, oldest first; empty if there is no file.

    Raises:
        EvidenceError: The file cannot be read, or a line is not a valid record.
    """
    try:
        # Do not use `splitlines` or text mode: a record can contain U+2028 and other line separators.
        content = Records(path.parent).read(path.name)
        if content.count(b"\n") > record_limits().values:
            raise StrictJsonError(f"it has more than {record_limits().values} lines")
        lines = content.decode().split("\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise EvidenceError(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise EvidenceError(f"{path.name} cannot be read: {error}") from error
    if lines[-1] == "":  # after the last record's end
        lines.pop()
    return tuple(_entry(path, kind, line) for line in lines)


def _entry(path: Path, kind: type[M], line: str) -> M:
    try:
        if len(line) > record_limits().line_bytes:
            raise StrictJsonError("it is too long")
        strict_json(line.encode())
        return kind.model_validate_json(line)
    except ValueError as error:
        raise EvidenceError(f"{path.name} is altered: {line[:80]}") from error
