"""The weights of a subject: inert random bytes in real safetensors files.

The bytes are the output of AES-256 in counter mode under a key derived from the trial's seed. Any part of them can be
generated again, so no copy has to be kept outside the cell, neither for proofs nor for the census.

Proofs cover the *canonical data*: the tensors' bytes in the order of the tensors' names. Splitting, merging, renaming
or moving files does not change it.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, overload

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

MIB: Final = 2**20
ROW_BYTES: Final = 1024
"""Length of a row. Every tensor is a matrix of such rows, and the size of a model is a multiple of it."""
SMALLEST_SIZE: Final = 16 * ROW_BYTES
ANCHOR_BYTES: Final = 32
"""Number of content bytes after the marker that identify an anchor."""

_AES_BLOCK: Final = 16
_NO_ASCII: Final = 0x80
_CHUNK: Final = 256 * 1024  # Fits a core's L2 cache, for cipher and hash.
_ZEROS: Final = bytes(_CHUNK + _AES_BLOCK)
_COLUMNS: Final = ROW_BYTES // 2  # bfloat16
_MATRICES_OF_A_LAYER: Final = (
    "mlp.down_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "self_attn.k_proj",
    "self_attn.o_proj",
    "self_attn.q_proj",
    "self_attn.v_proj",
)
_LAYER_BYTES: Final = 8 * MIB
_MAX_LAYERS: Final = 32


class ProofAbandoned(Exception):
    """Raised when a whole-content proof is abandoned because its result is no longer needed."""


@dataclass(frozen=True)
class Tensor:
    """A tensor's name and its position in the canonical data."""

    name: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first canonical offset after the tensor."""
        return self.offset + self.length


@dataclass(frozen=True)
class Slice:
    """A run of canonical data at an offset of a file."""

    canonical: int
    length: int
    position: int


@dataclass(frozen=True)
class WeightFile:
    """One safetensors file of the model: its header, and the positions of canonical data in it."""

    name: str
    header: bytes
    slices: tuple[Slice, ...]

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return len(self.header) + sum(piece.length for piece in self.slices)


@dataclass(frozen=True)
class Anchor:
    """A position of the trial's marker in the canonical data, with the content that follows the marker."""

    offset: int
    content: bytes


@dataclass(frozen=True)
class Anchors(Sequence[Anchor]):
    """Sample points that identify a run of weight bytes at any location, packed to 40 bytes each.

    Attributes:
        marker: Two bytes to search for.
        packed: For each anchor its canonical offset (8 bytes, big-endian) and the 32 bytes after the marker.
        smallest_sure_run: The shortest length for which every run of canonical data contains a complete anchor; more
            than the weights' size if there is no such length.
    """

    marker: bytes
    packed: bytes
    smallest_sure_run: int

    _RECORD = 8 + ANCHOR_BYTES

    def __len__(self) -> int:
        """Return the number of anchors."""
        return len(self.packed) // self._RECORD

    @overload
    def __getitem__(self, index: int) -> Anchor: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Anchor, ...]: ...
    def __getitem__(self, index: int | slice) -> Anchor | tuple[Anchor, ...]:
        """Return one anchor or several."""
        if isinstance(index, slice):
            return tuple(self._anchor(i) for i in range(*index.indices(len(self))))
        return self._anchor(range(len(self))[index])

    def _anchor(self, index: int) -> Anchor:
        record = self.packed[index * self._RECORD : (index + 1) * self._RECORD]
        return Anchor(int.from_bytes(record[:8], "big"), record[8:])


@dataclass(frozen=True)
class Weights:
    """A model's weights as a function of a seed. Contains a key and sizes, but no content.

    Attributes:
        key: AES-256 key of the content.
        total: Bytes of canonical data.
        shards: Number of safetensors files.
    """

    key: bytes
    total: int
    shards: int

    @classmethod
    def from_seed(cls, seed: int | bytes, size: int = 64 * MIB, shards: int = 4) -> "Weights":
        """Return the weights for a trial's seed.

        Args:
            seed: The trial's seed.
            size: Bytes of canonical data, a multiple of 1 KiB and at least 16 KiB.
            shards: Number of files over which the tensors are spread.
        """
        if size < SMALLEST_SIZE or size % ROW_BYTES:
            raise ValueError(f"weights of {size} bytes: give a multiple of {ROW_BYTES} bytes, at least {SMALLEST_SIZE}")
        label = seed if isinstance(seed, bytes) else str(seed).encode()
        weights = cls(key=hashlib.sha256(b"redline weights 1:" + label).digest(), total=size, shards=shards)
        if not 1 <= shards <= len(weights.tensors):
            raise ValueError(f"{shards} weight files: give a number from 1 to {len(weights.tensors)}")
        return weights

    @cached_property
    def layers(self) -> int:
        """Number of transformer layers that the tensors' names suggest."""
        return min(max(self.total // _LAYER_BYTES, 1), _MAX_LAYERS)

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor in canonical order."""
        matrices = [f"model.layers.{i}.{m}.weight" for i in range(self.layers) for m in _MATRICES_OF_A_LAYER]
        names = sorted(["lm_head.weight", "model.embed_tokens.weight", *matrices])
        rows, extra = divmod(self.total // ROW_BYTES, len(names))
        tensors, offset = [], 0
        for index, name in enumerate(names):
            length = (rows + (index < extra)) * ROW_BYTES
            tensors.append(Tensor(name, offset, length))
            offset += length
        return tuple(tensors)

    def read(self, offset: int, length: int) -> bytes:
        """Return a range of the canonical data, generated on demand."""
        self._check_range(offset, length)
        return b"".join(bytes(chunk) for chunk in self._stream(offset, length))

    def proof_spot(self, ranges: Sequence[tuple[int, int]], nonce: bytes) -> str:
        """Return the right proof for these (offset, length) ranges: an HMAC-SHA256 in hex."""
        digest = hmac.new(nonce, digestmod="sha256")
        for offset, length in ranges:
            digest.update(self.read(offset, length))
        return digest.hexdigest()

    def proofs_whole(self, nonces: Sequence[bytes], abandoned: Callable[[], bool] = bool) -> list[str]:
        """Return the right whole-content proof for each nonce. Several at once generate the content once.

        Call this in a worker thread. It runs in bounded memory and releases the lock for other threads.

        Args:
            nonces: Keys of the HMAC-SHA256. A key precedes the content, so only who has the key can compute in advance.
            abandoned: Called between chunks; True ends the computation.

        Raises:
            ProofAbandoned: `abandoned` returned True.
        """
        digests = [hmac.new(nonce, digestmod="sha256") for nonce in nonces]
        for chunk in self._stream(0, self.total):
            if abandoned():
                raise ProofAbandoned
            for digest in digests:
                digest.update(chunk)
        return [digest.hexdigest() for digest in digests]

    def files(self) -> tuple[WeightFile, ...]:
        """Return the safetensors files of the model, in order; each contains consecutive tensors."""
        return self._files

    @cached_property
    def _files(self) -> tuple[WeightFile, ...]:
        return tuple(
            _weight_file(f"model-{i:05d}-of-{self.shards:05d}.safetensors", tensors)
            for i, tensors in enumerate(self._sharded(), start=1)
        )

    def header_parts(self, file: WeightFile) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield the header of a file with its position. An engine reads only this at its start."""
        yield 0, file.header

    def data_parts(self, file: WeightFile) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield a file's data in parts with their positions. A part is valid until the next one is requested."""
        for piece in file.slices:
            position = piece.position
            for chunk in self._stream(piece.canonical, piece.length):
                yield position, chunk
                position += len(chunk)

    def all_data(self) -> Iterator[tuple[int, int, memoryview]]:
        """Yield the data of all files in parts: the file's number, the position in it, and the part.

        A part is valid until the next one is requested. The anchors are found on the way, so that at the end they are
        known without a further pass over the content.
        """
        search = _AnchorSearch(self.key)
        for number, (file, tensors) in enumerate(zip(self.files(), self._sharded(), strict=True)):
            position = len(file.header)
            for tensor in tensors:
                for chunk in self._stream(tensor.offset, tensor.length):
                    yield number, position, chunk
                    search.add(tensor, chunk)
                    position += len(chunk)
        self.__dict__["_anchors"] = search.found(self.total)  # where `cached_property` keeps it

    def anchors(self) -> Anchors:
        """Return the anchors of the content, computed in one pass at the first call."""
        return self._anchors

    @cached_property
    def _anchors(self) -> Anchors:
        search = _AnchorSearch(self.key)
        for tensor in self.tensors:
            for chunk in self._stream(tensor.offset, tensor.length):
                search.add(tensor, chunk)
        return search.found(self.total)

    def _sharded(self) -> Iterator[list[Tensor]]:
        count = len(self.tensors)
        borders = [count * i // self.shards for i in range(self.shards + 1)]
        return (list(self.tensors[start:end]) for start, end in zip(borders, borders[1:], strict=False))

    def _stream(self, offset: int, length: int) -> Iterator[memoryview]:
        """Yield the range in chunks that share one buffer. Use each before requesting the next."""
        block, skip = divmod(offset, _AES_BLOCK)
        cipher = self._cipher(block)
        cipher.update(_ZEROS[:skip])
        buffer = memoryview(bytearray(min(_CHUNK, length) + _AES_BLOCK))
        while length > 0:
            count = min(_CHUNK, length)
            cipher.update_into(memoryview(_ZEROS)[:count], buffer)
            yield buffer[:count]
            length -= count

    def _cipher(self, block: int) -> CipherContext:
        counter = block.to_bytes(_AES_BLOCK, "big")
        return Cipher(algorithms.AES(self.key), modes.CTR(counter)).encryptor()

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.total:
            raise ValueError(f"range {offset}+{length} is outside {self.total} bytes")


class _AnchorSearch:
    """Search for anchors in the content, which is given tensor by tensor in canonical order."""

    def __init__(self, key: bytes) -> None:
        """Start the search in the content of a key."""
        digest = hashlib.sha256(b"redline marker 1:" + key).digest()[:2]
        # Not a pair that is frequent in ordinary files, such as zeros or letters, since each hit costs time.
        self._marker = bytes(byte | _NO_ASCII for byte in digest)
        self._whole = len(self._marker) + ANCHOR_BYTES
        self._packed, self._last, self._longest = bytearray(), -1, 0
        self._tensor: Tensor | None = None
        self._tail, self._at, self._free = b"", 0, 0
        self._scratch = bytearray(_CHUNK // 2)

    def add(self, tensor: Tensor, chunk: memoryview) -> None:
        """Search the next part of a tensor, of at most `_CHUNK` bytes."""
        if tensor is not self._tensor:  # An anchor across two tensors would not survive another order of files.
            self._tensor, self._tail, self._at, self._free = tensor, b"", tensor.offset, tensor.offset
        spare, before = self._whole - 1, len(self._tail)
        border = memoryview(self._tail + chunk[:spare])
        starts = [at - before for at in find_pair(border, self._marker, self._scratch) if at < before]
        for start in starts + find_pair(chunk, self._marker, self._scratch):
            if start + self._whole > len(chunk):
                break  # A hit this close to the end is incomplete; it is found again, complete, with the next part.
            offset = self._at + start
            if offset < self._free:
                continue  # It overlaps the hit before it.
            self._free = offset + len(self._marker)
            self._packed += offset.to_bytes(8, "big")
            content = border[before + start :] if start < 0 else chunk[start:]
            self._packed += content[len(self._marker) : self._whole]
            self._longest = max(self._longest, offset + self._whole - 1 - self._last)
            self._last = offset
        self._tail = (self._tail + chunk[-spare:])[-spare:]
        self._at += len(chunk)

    def found(self, total: int) -> Anchors:
        """Return the anchors of the content, whose size is `total`."""
        return Anchors(self._marker, bytes(self._packed), max(self._longest, total - self._last))


def find_pair(block: memoryview, pair: bytes, scratch: bytearray) -> list[int]:
    """Return all positions of a pair of bytes, in a third of the time of a regular expression.

    It compares all words at once. The few that are equal are found fastest by a search in the bytes of the result.

    Args:
        block: What to search.
        pair: Two bytes.
        scratch: Memory for the result of the comparison, at least half as long as the block. To allocate it for each
            block would cost as much as the comparison.
    """
    wanted = np.uint16(int.from_bytes(pair, "little"))
    results = np.frombuffer(scratch, dtype=np.bool_)
    found = []
    for shift in range(min(2, len(block))):
        count = (len(block) - shift) // 2
        words = np.frombuffer(block, dtype="<u2", count=count, offset=shift)
        np.equal(words, wanted, out=results[:count])
        at = scratch.find(True, 0, count)
        while at >= 0:
            found.append(2 * at + shift)
            at = scratch.find(True, at + 1, count)
    found.sort()
    return found


def _weight_file(name: str, tensors: Sequence[Tensor]) -> WeightFile:
    start = tensors[0].offset
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": [tensor.length // ROW_BYTES, _COLUMNS],
            "data_offsets": [tensor.offset - start, tensor.end - start],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The format recommends that data begins at a multiple of 8.
    encoded = len(text).to_bytes(8, "little") + text
    return WeightFile(name, encoded, (Slice(start, tensors[-1].end - start, len(encoded)),))


def write_parts(fds: Sequence[int], parts: Iterable[tuple[int, int, bytes | memoryview]]) -> None:
    """Write parts of files, each given by the number of its descriptor, a position and the content."""
    for number, begin, part in parts:
        position, view = begin, memoryview(part)
        while view:
            written = os.pwrite(fds[number], view, position)
            position += written
            view = view[written:]
