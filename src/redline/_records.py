"""Bounded reading of the files in a run's folder, which anyone can have created or changed.

A record is a regular file with a plain relative name. Symbolic links below the folder are not followed, files that
block or never end are not opened, and the number of bytes read is limited. JSON is parsed strictly, so that a document
has the same meaning for every reader.
"""

import errno
import hashlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from redline._base import Frozen, read_toml

MIB = 20
CHUNK = 1 << 20
DEPTH = 4
"""Maximum number of parts in the name of a record."""


class RecordLimits(Frozen):
    """Limits for reading from a folder; the data file documents each."""

    document_bytes: int
    line_bytes: int
    hashed_bytes: int
    total_bytes: int
    plan_bytes: int
    key_bytes: int
    plan_values: int
    entries: int
    nesting: int
    values: int
    magnitude: int
    log_bytes: int
    log_member_bytes: int
    log_total_bytes: int
    log_members: int
    log_directory_bytes: int
    log_values: int
    faults: int


@cache
def record_limits() -> RecordLimits:
    """Return the limits in the data file."""
    return RecordLimits.model_validate(read_toml("redline", "records.toml"))


class RecordError(OSError):
    """Raised for a name or file that cannot be a record; `strerror` says why."""


class StrictJsonError(ValueError):
    """Raised for text that is not strict JSON within the limits."""


class Records:
    """Reads the files of one folder within a budget of bytes."""

    def __init__(self, root: Path) -> None:
        """Store the folder; open nothing yet.

        Args:
            root: The folder as the user named it; links in this path are followed.
        """
        self.root = root
        self._left = record_limits().total_bytes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return the content of a file.

        Args:
            name: Name relative to the folder, with `/` between its parts.
            limit: Maximum size in bytes; None uses the limit for documents.

        Raises:
            OSError: There is no regular file of that name, or it cannot be read within the limits.
        """
        most = record_limits().document_bytes if limit is None else limit
        with self.open(name, most) as file:
            content = _read_whole(file, most + 1)
            self._spend(len(content))
            if len(content) > most:
                raise _too_large(most)
        return content

    def sha256(self, name: str) -> str:
        """Return the hash of a file's content.

        Raises:
            OSError: As for `read`.
        """
        most = record_limits().hashed_bytes
        digest = hashlib.sha256()
        done = 0
        with self.open(name, most) as file:
            while chunk := _read_whole(file, CHUNK):
                done += len(chunk)
                self._spend(len(chunk))
                if done > most:
                    raise _too_large(most)
                digest.update(chunk)
        return digest.hexdigest()

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            total = record_limits().total_bytes
            raise RecordError(errno.EFBIG, f"more than {total >> MIB} MiB of files are in the folder")

    @contextmanager
    def open(self, name: str, limit: int) -> Iterator[FileIO]:
        """Open a file for reading; a single read can return fewer bytes than requested.

        Raises:
            OSError: There is no regular file of that name, or it has more than `limit` bytes.
        """
        parts = _parts(name)
        with _folder(self.root, parts[:-1]) as folder:
            handle = open_regular(parts[-1], folder=folder)
        with FileIO(handle) as raw:
            if os.fstat(handle).st_size > limit:
                raise _too_large(limit)
            yield raw

    def exists(self, name: str) -> bool:
        """Return whether anything has this name, including a dangling link."""
        try:
            parts = _parts(name)
            with _folder(self.root, parts[:-1]) as folder:
                os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        return True

    def names(self, name: str = "") -> list[tuple[str, bool]]:
        """Return the sorted names in a folder, each with whether it is a real folder, not a link.

        Args:
            name: Relative name of the folder; empty for the root.

        Raises:
            OSError: It is not a folder, or has too many entries.
        """
        found: list[tuple[str, bool]] = []
        with _folder(self.root, _parts(name) if name else []) as folder, os.scandir(folder) as entries:
            for entry in entries:
                found.append((entry.name, entry.is_dir(follow_symlinks=False)))
                if len(found) > record_limits().entries:
                    raise RecordError(errno.EMFILE, f"it has more than {record_limits().entries} entries")
        return sorted(found)


def _read_whole(file: FileIO, size: int) -> bytes:
    """Return a number of bytes of a file, or fewer at its end."""
    found = bytearray()
    while len(found) < size:
        chunk = file.read(min(CHUNK, size - len(found)))
        if not chunk:  # None where a file that would block has nothing
            break
        found += chunk
    return bytes(found)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a file that the user named; links to it are followed, but it must be regular.

    Raises:
        OSError: It cannot be read, is no regular file, or is too large.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _not_regular(os.stat(path).st_mode)
    with FileIO(os.open(path, _READ)) as raw:
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            raise _not_regular(os.fstat(raw.fileno()).st_mode)
        content = _read_whole(raw, limit + 1)
    if len(content) > limit:
        raise _too_large(limit)
    return content


_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(name: str | Path, flags: int = _READ, *, folder: int | None = None, mode: int = 0o644) -> int:
    """Open a regular file without following a link; with the flag `O_CREAT` it can be new.

    Raises:
        OSError: The file cannot be opened, or is not a regular file.
    """
    try:
        # Check the type first, since merely opening a device can have an effect.
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    else:
        if not stat.S_ISREG(before.st_mode):
            raise _not_regular(before.st_mode)
    handle = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=folder)
    opened = os.fstat(handle).st_mode
    if not stat.S_ISREG(opened):
        os.close(handle)
        raise _not_regular(opened)
    return handle


def refuse_link(folder: Path) -> None:
    """Refuse a subfolder of a run's folder that is a link or not a folder, since writes would go elsewhere.

    Raises:
        OSError: It is a link or not a folder. A missing folder is accepted.
    """
    try:
        mode = os.lstat(folder).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise RecordError(errno.ENOTDIR, f"it is {_kind(mode)}, not a folder", str(folder))


def refuse_foreign(path: Path) -> None:
    """Refuse a file or folder that another user owns or can change, and a link, whose target may be such a file.

    Raises:
        OSError: Another user controls the path, it is a link, or it is missing.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise RecordError(errno.ELOOP, "it is a symbolic link", str(path))
    if found.st_uid != os.geteuid():
        raise RecordError(errno.EPERM, "it belongs to another user", str(path))
    if found.st_mode & stat.S_IWOTH:
        raise RecordError(errno.EPERM, "every user can write to it", str(path))


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if len(parts) > DEPTH or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise RecordError(errno.EINVAL, "its name leads out of the folder, or is not a plain name")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise RecordError(errno.EINVAL, "its name is not a valid file name") from error
    return parts


@contextmanager
def _folder(root: Path, parts: list[str]) -> Iterator[int]:
    """Yield a descriptor of a folder below the root, reached without following links."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            # Check with stat, since the error of `open` for a link says only that it is not a folder.
            if stat.S_ISLNK(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode):
                raise RecordError(errno.ELOOP, "it is a symbolic link, or is reached through one")
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a file"),
    )
    return next((words for test, words in kinds if test(mode)), "a device")


def _not_regular(mode: int) -> RecordError:
    return RecordError(errno.EINVAL, f"it is {_kind(mode)}, not a regular file")


def _too_large(limit: int) -> RecordError:
    bound = f"{limit >> MIB} MiB" if limit >> MIB else f"{limit} bytes"
    return RecordError(errno.EFBIG, f"it is larger than {bound}")


def strict_json(content: bytes) -> Any:
    """Parse unambiguous JSON: UTF-8 without a byte order mark, no duplicate keys, finite numbers, limited nesting.

    Raises:
        StrictJsonError: The text is not strict JSON, or exceeds the limits.
    """
    limits = record_limits()
    # Every value except the first follows one of these characters, so this bounds the memory that parsing needs.
    if sum(map(content.count, (b",", b"[", b"{", b":"))) > limits.values:
        raise StrictJsonError(f"it may have more than {limits.values} values")
    try:
        text = content.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise StrictJsonError(f"it is nested more than {limits.nesting} levels deep") from error
    except StrictJsonError:
        raise
    except ValueError as error:
        raise StrictJsonError(f"it is not JSON: {error}") from error
    _refuse_deep(value, limits.nesting)
    return value


def _refuse_deep(value: Any, most: int) -> None:
    level = [value]  # the arrays and objects of one level, after the first
    for _ in range(most):
        parts = [one.values() if type(one) is dict else one for one in level if type(one) in _NESTED]
        level = []
        for values in parts:
            # Most arrays and objects contain only plain values, which the types show much faster than a loop does.
            if not _NESTED.isdisjoint(map(type, values)):
                level += [one for one in values if type(one) in _NESTED]
        if not level:
            return
    raise StrictJsonError(f"it is nested more than {most} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise StrictJsonError(f"the key {twice[:80]!r} appears twice")
    return found


@cache
def _digits() -> int:
    """Return the number of digits of the largest allowed number; numbers with fewer are smaller."""
    return len(str(record_limits().magnitude))


def _integer(text: str) -> int:
    if len(text) < _digits():
        return int(text)
    magnitude = record_limits().magnitude
    if len(text) > _digits() + 1 or abs(int(text)) > magnitude:
        raise StrictJsonError(f"the number {text[:20]}… is too large")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > record_limits().magnitude:
        raise StrictJsonError(f"the number {text[:20]} is too large")
    return value


def _constant(text: str) -> float:
    raise StrictJsonError(f"{text} is not a JSON number")


_NESTED = {list, dict}
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
)
