"""Check the Inspect logs of a folder before Inspect reads them, because Inspect sets no limits.

A log is a ZIP file of JSON documents. Each log is read once from end to end, so that no member is larger than it states
or too large for memory.

Samples are read whole. To leave out some of their fields, Inspect uses a parser that stores the path to every value as
a text: 100 kB of nested arrays, or of keys below a long key, take tens of gigabytes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from struct import Struct
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from inspect_ai.log import EvalLog, EvalSample, read_eval_log, read_eval_log_sample, read_eval_log_samples

from redline._errors import EvidenceError, RedlineError
from redline._names import one_line
from redline._records import CHUNK, MIB, Records, record_limits

ZIP_ZSTANDARD = 93
METHODS = (ZIP_STORED, ZIP_DEFLATED, ZIP_ZSTANDARD)
"""Compression methods that Inspect uses."""

SMALL_CHUNK = 4096
"""Zstandard expands a byte to at most 32 KiB, and Python's reader cannot stop it within a chunk."""

ENCRYPTED = 1

DIRECTORY_ENTRY = Struct("<42xL")
"""Fixed part of an entry of a ZIP file's directory, of which the offset of the member is read."""

SUFFIX = ".eval"


class _BadLogError(Exception):
    """Raised for a log that must not be read further; the message says why."""


def log_names(files: Records, folder: str) -> list[str]:
    """Return the names of the logs in a folder; empty if the folder does not exist.

    Raises:
        EvidenceError: It is not a folder, or cannot be listed.
    """
    if not files.exists(folder):
        return []
    try:
        return [f"{folder}/{name}" for name, _ in files.names(folder) if _is_log(name)]
    except OSError as error:
        raise EvidenceError(f"{folder} cannot be listed: {error.strerror}") from error


def check_all(files: Records, folder: str) -> list[str]:
    """Check every file in the folder of logs, since Inspect reads all of them on resumption; return the logs.

    Raises:
        EvidenceError: A file is not a log or document within the limits.
    """
    for name in _tree(files, folder) if files.exists(folder) else ():
        if _is_log(name):
            check_log(files, name)
        else:
            with _reading(name), files.open(name, record_limits().document_bytes):
                pass
    return log_names(files, folder)


def _is_log(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.rpartition("/")[2].startswith(".")


def _tree(files: Records, folder: str) -> Iterator[str]:
    with _reading(folder):
        found = files.names(folder)
    for name, is_folder in found:
        if is_folder:
            yield from _tree(files, f"{folder}/{name}")  # Records limits the depth of names
        else:
            yield f"{folder}/{name}"


def check_log(files: Records, name: str) -> None:
    """Read a log from end to end within the limits.

    Raises:
        EvidenceError: The log is missing, is not an Inspect log, or is too large when decompressed.
    """
    if not _is_log(name):
        raise EvidenceError(f"{name} is not the name of an Inspect log")
    limits = record_limits()
    with _reading(name), files.open(name, limits.log_bytes) as file, ZipFile(_BoundedReads(file)) as log:
        members = log.infolist()
        if len(members) > limits.log_members:
            raise _BadLogError(f"it has more than {limits.log_members} members")
        if log.comment or (members and _is_shifted(log, members)):
            raise _BadLogError("it contains data outside the members of an Inspect log")
        total = 0
        for member in members:
            total += _size_of(log, member)
            if total > limits.log_total_bytes:
                raise _BadLogError(f"its members have more than {limits.log_total_bytes >> MIB} MiB")


def _is_shifted(log: ZipFile, members: list[ZipInfo]) -> bool:
    """Return whether data precedes the archive, so that readers disagree about where its members are.

    Inspect itself leaves unused data there: when it resumes a log without any sample, it writes the log's first member
    twice. The offsets in the directory then count from the start of the file, so every reader finds the same members.
    """
    if not min(member.header_offset for member in members):
        return False
    assert log.fp is not None
    log.fp.seek(log.start_dir)
    entry = log.fp.read(DIRECTORY_ENTRY.size)
    if len(entry) < DIRECTORY_ENTRY.size:
        return True
    (stated,) = DIRECTORY_ENTRY.unpack(entry)
    return bool(stated != members[0].header_offset)  # Python adds the size of preceding data to what is stated


def _size_of(log: ZipFile, member: ZipInfo) -> int:
    limits = record_limits()
    most = limits.log_member_bytes
    if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
        raise _BadLogError(f"its member {member.filename[:80]} is compressed in a way that Inspect does not use")
    if member.file_size > most:
        raise _BadLogError(f"its member {member.filename[:80]} has more than {most >> MIB} MiB")
    untrusted = copy(member)
    untrusted.file_size = most + 1  # Python's reader stops at the stated size, Inspect's does not
    done = values = 0
    with log.open(untrusted) as content:
        while chunk := content.read(SMALL_CHUNK if member.compress_type == ZIP_ZSTANDARD else CHUNK):
            done += len(chunk)
            values += sum(map(chunk.count, (b",", b"[", b"{", b":")))
            if done > member.file_size or values > limits.log_values:
                break
    if done != member.file_size:
        raise _BadLogError(f"its member {member.filename[:80]} differs from its stated size, or has too many values")
    return done


class _BoundedReads:
    """File whose single reads are limited to the maximum size of a log's directory."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        most = record_limits().log_directory_bytes
        if size < 0:
            size = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if size > most:
            raise _BadLogError(f"its directory has more than {most >> MIB} MiB")
        found: bytes = self._file.read(size)
        return found


def read_header(path: Path) -> EvalLog:
    """Return the header of a checked log.

    Raises:
        EvidenceError: Inspect cannot read it.
    """
    with _reading(_short(path)):
        return read_eval_log(str(path), header_only=True)


def read_sample(path: Path, sample: str | int) -> EvalSample | None:
    """Return a sample of a checked log; None if the log does not contain it.

    Raises:
        EvidenceError: Inspect cannot read it.
    """
    with _reading(_short(path)):
        try:
            return read_eval_log_sample(str(path), id=sample)
        except IndexError:
            return None


def read_samples(path: Path) -> Iterator[EvalSample]:
    """Yield every sample of a checked log.

    Raises:
        EvidenceError: Inspect cannot read one.
    """
    with _reading(_short(path)):
        samples = iter(read_eval_log_samples(str(path), all_samples_required=False))
    while True:
        with _reading(_short(path)):
            sample = next(samples, None)
        if sample is None:
            return
        yield sample


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn any exception of a log reader into a one-line error, since the readers do not expect untrusted logs."""
    try:
        yield
    except (RedlineError, _BadLogError) as error:
        raise error if isinstance(error, RedlineError) else EvidenceError(f"{name} is not read: {error}") from error
    except OSError as error:
        raise EvidenceError(f"{name} cannot be read: {error.strerror or one_line(error)}") from error
    except Exception as error:
        raise EvidenceError(f"{name} is no Inspect log that can be read: {one_line(error)}") from error
