"""Inspect logs of a folder, checked before they are given to Inspect, which reads them without a bound.

A log is a ZIP file of JSON documents. It is read here once from end to end, so that no member turns out larger than it
says or than can be read into memory.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from inspect_ai.log import EvalLog, EvalSample, read_eval_log, read_eval_log_sample, read_eval_log_samples

from redline._errors import EvidenceError, RedlineError
from redline._names import one_line
from redline._records import CHUNK, MIB, Records, record_limits

ZIP_ZSTANDARD = 93
METHODS = (ZIP_STORED, ZIP_DEFLATED, ZIP_ZSTANDARD)
"""Those that Inspect writes."""

SMALL_CHUNK = 4096
"""Zstandard makes 32 KiB of a byte at most, and Python's reader cannot stop it in the middle of a chunk."""

ENCRYPTED = 1
SUFFIX = ".eval"


class _Bad(Exception):
    """Raised for a log that is not read any further; the message says why."""


def log_names(files: Records, folder: str) -> list[str]:
    """Return the names of the logs in a folder, none where there is no such folder.

    Raises:
        EvidenceError: It is no folder, or cannot be listed.
    """
    if not files.exists(folder):
        return []
    try:
        return [f"{folder}/{name}" for name, _ in files.names(folder) if _is_log(name)]
    except OSError as error:
        raise EvidenceError(f"{folder} cannot be listed: {error.strerror}") from error


def check_all(files: Records, folder: str) -> list[str]:
    """Check everything in the folder of logs, all of which Inspect reads when a run is resumed; return the logs.

    Raises:
        EvidenceError: Something is no log or document within bounds.
    """
    for name in _tree(files, folder) if files.exists(folder) else ():
        if _is_log(name):
            check_log(files, name)
        else:
            with _said_of(name), files.open(name, record_limits().document_bytes):
                pass
    return log_names(files, folder)


def _is_log(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.rpartition("/")[2].startswith(".")


def _tree(files: Records, folder: str) -> Iterator[str]:
    with _said_of(folder):
        found = files.names(folder)
    for name, is_folder in found:
        if is_folder:
            yield from _tree(files, f"{folder}/{name}")  # the names of a record have few parts
        else:
            yield f"{folder}/{name}"


def check_log(files: Records, name: str) -> None:
    """Read a log from end to end within bounds.

    Raises:
        EvidenceError: It is missing, is no Inspect log, or is too large once it is decompressed.
    """
    if not _is_log(name):
        raise EvidenceError(f"{name} is not the name of an Inspect log")
    limits = record_limits()
    with _said_of(name), files.open(name, limits.log_bytes) as file, ZipFile(_Frugal(file)) as log:
        members = log.infolist()
        if len(members) > limits.log_members:
            raise _Bad(f"it has more than {limits.log_members} members")
        if log.comment or (members and min(member.header_offset for member in members)):
            raise _Bad("it holds more than the members of an Inspect log")
        total = 0
        for member in members:
            total += _size_of(log, member)
            if total > limits.log_total_bytes:
                raise _Bad(f"its members have more than {limits.log_total_bytes >> MIB} MiB")


def _size_of(log: ZipFile, member: ZipInfo) -> int:
    limits = record_limits()
    most = limits.log_member_bytes
    if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
        raise _Bad(f"its member {member.filename[:80]} is packed as Inspect does not")
    if member.file_size > most:
        raise _Bad(f"its member {member.filename[:80]} has more than {most >> MIB} MiB")
    unbelieved = copy(member)
    unbelieved.file_size = most + 1  # Python's reader stops at the size that is stated, Inspect's does not
    done = values = 0
    with log.open(unbelieved) as content:
        while chunk := content.read(SMALL_CHUNK if member.compress_type == ZIP_ZSTANDARD else CHUNK):
            done += len(chunk)
            values += sum(map(chunk.count, (b",", b"[", b"{", b":")))
            if done > member.file_size or values > limits.log_values:
                break
    if done != member.file_size:
        raise _Bad(f"its member {member.filename[:80]} has another size than it states, or too many values")
    return done


class _Frugal:
    """A file of which no more is read at once than a directory of a log can take."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        most = record_limits().log_directory_bytes
        if size < 0:
            size = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if size > most:
            raise _Bad(f"its directory has more than {most >> MIB} MiB")
        found: bytes = self._file.read(size)
        return found


def read_header(path: Path) -> EvalLog:
    """Return what a checked log says of itself.

    Raises:
        EvidenceError: Inspect cannot read it.
    """
    with _said_of(_short(path)):
        return read_eval_log(str(path), header_only=True)


def read_sample(path: Path, sample: str | int, unread: set[str]) -> EvalSample | None:
    """Return a sample of a checked log, None where it is not in it.

    Raises:
        EvidenceError: Inspect cannot read it.
    """
    with _said_of(_short(path)):
        try:
            return read_eval_log_sample(str(path), id=sample, exclude_fields=unread)
        except IndexError:
            return None


def read_samples(path: Path, unread: set[str] | None = None) -> Iterator[EvalSample]:
    """Yield every sample of a checked log.

    Raises:
        EvidenceError: Inspect cannot read one.
    """
    with _said_of(_short(path)):
        samples = iter(read_eval_log_samples(str(path), all_samples_required=False, exclude_fields=unread))
    while True:
        with _said_of(_short(path)):
            sample = next(samples, None)
        if sample is None:
            return
        yield sample


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@contextmanager
def _said_of(name: str) -> Iterator[None]:
    """Makes one line of whatever a log makes its readers raise: they were not written for logs of strangers."""
    try:
        yield
    except (RedlineError, _Bad) as error:
        raise error if isinstance(error, RedlineError) else EvidenceError(f"{name} is not read: {error}") from error
    except OSError as error:
        raise EvidenceError(f"{name} cannot be read: {error.strerror or one_line(error)}") from error
    except Exception as error:
        raise EvidenceError(f"{name} is no Inspect log that can be read: {one_line(error)}") from error
