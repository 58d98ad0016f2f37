"""Read the header of a GGUF file: the model's properties, and whether it can be served.

The `gguf` package loads whole vocabularies into objects, which takes 7 s for 150,000 tokens. This module skips the
arrays, and reports every defect of a file as an error of one line.
"""

import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from redline._errors import UsageError
from redline._text import clean_line
from redline.models._figures import figures

MAGIC = b"GGUF"
VERSIONS = (2, 3)

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 20
MAX_ITEMS = 1 << 24
MAX_DIMENSIONS = 8
MAX_TEXT_BYTES = 1 << 24
KEPT_ITEMS = 4096
"""Arrays of numbers up to this length are kept: some models have a value for each layer."""

PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
"""llama.cpp's names of the files of a split model."""

BYTES_PER_VALUE = 2
"""The KV cache contains 16-bit numbers."""

Value = str | int | float | bool | tuple[int | float | bool, ...]


class GgufError(UsageError):
    """Raised when a file cannot be served. The message has the reason, without the file's name."""


@dataclass(frozen=True)
class GgufHeader:
    """The header of a model and its files."""

    files: tuple[Path, ...]
    """The file, or the parts in order if the model is split."""
    size: int
    """Size of all files, in bytes."""
    fields: Mapping[str, Value]
    """Metadata by key, without long arrays."""

    @property
    def architecture(self) -> str:
        """Name of the architecture, such as `llama`."""
        return str(self.fields.get("general.architecture", ""))

    @property
    def trained_context(self) -> int | None:
        """Context length of the training, in tokens."""
        return self._number("context_length")

    @property
    def chat_template(self) -> str | None:
        """The chat template; None if the file has none, so that the server uses its default."""
        template = self.fields.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def kv_bytes_per_token(self) -> int | None:
        """Return the size of the KV cache for one token in bytes; None if the header is incomplete."""
        layers, heads = self._number("block_count"), self._number("attention.head_count")
        width = self._number("embedding_length")
        if not layers or not heads or not width:
            return None
        shared = self.fields.get(f"{self.architecture}.attention.head_count_kv", heads)
        each = list(shared) if isinstance(shared, tuple) else [shared] * min(layers, MAX_KEYS)
        key = self._number("attention.key_length") or width // heads
        value = self._number("attention.value_length") or width // heads
        return sum(int(heads_kv) for heads_kv in each if isinstance(heads_kv, int)) * (key + value) * BYTES_PER_VALUE

    def _number(self, name: str) -> int | None:
        value = self.fields.get(f"{self.architecture}.{name}")
        if isinstance(value, tuple):
            value = max(value, default=0)
        return int(value) if isinstance(value, int | float) and 0 < value < 1 << 40 else None


def read_gguf(path: Path) -> GgufHeader:
    """Read the header of a model.

    Raises:
        GgufError: The file does not exist or does not contain a language model.
    """
    size, fields = _read_file(path)
    header = GgufHeader((path,), size, fields)
    count = fields.get("split.count", 1)
    if isinstance(count, int) and count > 1:
        header = _with_parts(header, count)
    _refuse_other_kinds(header)
    return header


def _with_parts(first: GgufHeader, count: int) -> GgufHeader:
    path = first.files[0]
    named = PART.fullmatch(path.name)
    if named is None or int(named[3]) != count:
        raise GgufError(f"is part of a model split into {count} files, but its name does not follow llama.cpp's scheme")
    if int(named[2]) != 1:
        raise GgufError(f"is not the first part of its model: use {clean_line(named[1])}-00001-of-{named[3]}.gguf")
    paths = [path.with_name(f"{named[1]}-{number:05d}-of-{named[3]}.gguf") for number in range(1, count + 1)]
    size = first.size
    for part in paths[1:]:
        try:
            size += _read_file(part)[0]
        except GgufError as error:
            raise GgufError(f"is split into {count} files, of which {clean_line(part.name)} {error}") from error
    return GgufHeader(tuple(paths), size, first.fields)


def _refuse_other_kinds(header: GgufHeader) -> None:
    refused, architecture = figures().refused, header.architecture
    kind = header.fields.get("general.type", "model")
    if kind in refused.kinds:
        raise GgufError(f"contains only a part of a model ({clean_line(kind)})")
    if not architecture:
        raise GgufError("does not name its architecture: it is not a complete GGUF model")
    pooled = header.fields.get(f"{architecture}.pooling_type", 0)
    causal = header.fields.get(f"{architecture}.attention.causal", True)
    if architecture in refused.architectures or (isinstance(pooled, int) and pooled > 0) or causal is False:
        raise GgufError(f"contains an embedding model ({clean_line(architecture)}), which does not generate text")


def _read_file(path: Path) -> tuple[int, dict[str, Value]]:
    """Return the size and metadata of one file."""
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise GgufError(f"cannot be read: {error.strerror if isinstance(error, OSError) else error}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        is_folder = stat.S_ISDIR(found.st_mode)
        raise GgufError("is a directory: use the .gguf file in it" if is_folder else "is not a regular file")
    with os.fdopen(handle, "rb") as file:
        try:
            return found.st_size, _Reader(file, found.st_size).fields()
        except OSError as error:
            raise GgufError(f"cannot be read: {error.strerror}") from error


class _Reader:
    """Read a header from an untrusted file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def fields(self) -> dict[str, Value]:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise GgufError("is not a GGUF file")
        version = self._number("I")
        if version not in VERSIONS:
            raise GgufError(f"is a GGUF file of version {version}; llama.cpp reads 2 and 3, little-endian")
        tensors, keys = self._count(MAX_TENSORS), self._count(MAX_KEYS)
        fields = {}
        for _ in range(keys):
            key = self._text()
            value = self._value(int(self._number("I")))
            if value is not None:
                fields[key] = value
        last_offset = max((self._tensor_offset() for _ in range(tensors)), default=0)
        if self._file.tell() + last_offset > self._size:
            raise GgufError("is truncated: its tensors are beyond its end")
        return fields

    def _tensor_offset(self) -> int:
        """Skip the description of a tensor and return its offset in the data."""
        self._text()
        dimensions = int(self._number("I"))
        if dimensions > MAX_DIMENSIONS:
            raise GgufError("is damaged: a tensor has too many dimensions")
        self._take(8 * dimensions + 4)
        return int(self._number("Q"))

    def _value(self, kind: int) -> Value | None:
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise GgufError(f"is damaged: its header has a value of unknown type {kind}")
        return self._number(SCALARS[kind])

    def _array(self) -> Value | None:
        kind = int(self._number("I"))
        count = self._count(MAX_ITEMS)
        if kind == STRING:
            for _ in range(count):
                self._skip(int(self._number("Q")))
            return None
        if kind not in SCALARS:
            raise GgufError(f"is damaged: its header has a list of unknown type {kind}")
        width = struct.calcsize("<" + SCALARS[kind])
        if count > KEPT_ITEMS:
            self._skip(width * count)
            return None
        return struct.unpack(f"<{count}{SCALARS[kind]}", self._take(width * count))

    def _text(self) -> str:
        length = int(self._number("Q"))
        if length > MAX_TEXT_BYTES:
            raise GgufError("is damaged: its header has a text that is too long")
        return self._take(length).decode("utf-8", "replace")

    def _count(self, limit: int) -> int:
        count = int(self._number("Q"))
        if count > limit:
            raise GgufError(f"is damaged: its header has {count} entries")
        return count

    def _number(self, form: str) -> int | float | bool:
        (value,) = struct.unpack("<" + form, self._take(struct.calcsize("<" + form)))
        number: int | float | bool = value
        return number

    def _take(self, length: int) -> bytes:
        content = self._file.read(length)
        if len(content) != length:
            raise GgufError("is truncated in its header")
        return content

    def _skip(self, length: int) -> None:
        if self._file.tell() + length > self._size:
            raise GgufError("is truncated in its header")
        self._file.seek(length, os.SEEK_CUR)
