import hashlib
import hmac
import os
import re
import tracemalloc
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from redline.subject.weights import (
    ANCHOR_BYTES,
    MIB,
    ROW_BYTES,
    SMALLEST_SIZE,
    ProofAbandoned,
    Tensor,
    Weights,
    _AnchorSearch,
    find_pair,
    write_parts,
)
from tests.weight_files import write_weights

SMALL = 64 * 1024
NONCE = b"n" * 32

deserialize: Any = safetensors.deserialize  # untyped


def whole(weights: Weights) -> bytes:
    return weights.read(0, weights.total)


@given(seed=st.one_of(st.integers(0), st.binary(max_size=40)), data=st.data())
def test_any_range_equals_that_part_of_the_whole(seed: int | bytes, data: st.DataObject) -> None:
    weights = Weights.from_seed(seed, SMALL, 2)
    offset = data.draw(st.integers(0, weights.total))
    length = data.draw(st.integers(0, weights.total - offset))
    assert weights.read(offset, length) == whole(weights)[offset : offset + length]


@given(data=st.data())
def test_a_spot_proof_equals_the_naive_one(data: st.DataObject) -> None:
    weights = Weights.from_seed(1, SMALL, 2)
    ranges = data.draw(st.lists(st.tuples(st.integers(0, SMALL // 2), st.integers(1, SMALL // 2)), max_size=8))
    content = whole(weights)
    naive = hmac.new(NONCE, b"".join(content[o : o + n] for o, n in ranges), hashlib.sha256).hexdigest()
    assert weights.proof_spot(ranges, NONCE) == naive


def test_a_whole_proof_equals_the_naive_one_across_chunks() -> None:
    weights = Weights.from_seed(2, 3 * MIB)
    assert weights.proofs_whole([NONCE])[0] == hmac.new(NONCE, whole(weights), hashlib.sha256).hexdigest()


def test_an_abandoned_whole_content_proof_stops() -> None:
    asked: list[bool] = []

    def abandoned() -> bool:
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(ProofAbandoned):
        Weights.from_seed(2, 8 * MIB).proofs_whole([NONCE], abandoned)
    assert len(asked) == 3


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_bytes() -> None:
    assert whole(Weights.from_seed(1, SMALL)) == whole(Weights.from_seed(1, SMALL))
    assert whole(Weights.from_seed(1, SMALL)) != whole(Weights.from_seed(2, SMALL))


@given(shards=st.integers(1, 9))
@settings(max_examples=9, deadline=None)
def test_sharding_does_not_change_the_canonical_data(shards: int) -> None:
    weights = Weights.from_seed(3, SMALL, shards)
    assert weights.proofs_whole([NONCE])[0] == Weights.from_seed(3, SMALL, 1).proofs_whole([NONCE])[0]
    pieces = [piece for file in weights.files() for piece in file.slices]
    assert [piece.canonical for piece in pieces] == [sum(p.length for p in pieces[:i]) for i in range(len(pieces))]
    assert sum(piece.length for piece in pieces) == weights.total
    assert len(weights.files()) == shards


def test_safetensors_reads_every_tensor_with_its_canonical_bytes(tmp_path: Path) -> None:
    weights = Weights.from_seed(4, 2 * MIB, 3)
    shapes: dict[str, list[int]] = {}
    tensors: dict[str, bytes] = {}
    for path in sorted(write_weights(weights, tmp_path / "w").iterdir()):
        with safe_open(path, framework="np") as file:
            names = file.keys()
            shapes |= {name: file.get_slice(name).get_shape() for name in names}
        tensors |= {name: bytes(tensor["data"]) for name, tensor in deserialize(path.read_bytes())}
    assert shapes == {tensor.name: [tensor.length // ROW_BYTES, ROW_BYTES // 2] for tensor in weights.tensors}
    assert b"".join(tensors[name] for name in sorted(tensors)) == whole(weights)


def test_files_contain_the_canonical_data_at_the_positions_of_their_slices(tmp_path: Path) -> None:
    weights = Weights.from_seed(5, SMALL, 4)
    folder = write_weights(weights, tmp_path / "w")
    for file in weights.files():
        data = (folder / file.name).read_bytes()
        assert len(data) == file.size
        assert data.startswith(file.header)
        for piece in file.slices:
            assert data[piece.position : piece.position + piece.length] == weights.read(piece.canonical, piece.length)


def test_memory_stays_bounded_while_proving_and_writing(tmp_path: Path) -> None:
    weights = Weights.from_seed(6, 64 * MIB, 1)
    (file,) = weights.files()
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    tracemalloc.start()
    try:
        weights.proofs_whole([NONCE])[0]
        write_parts((fd,), ((0, *part) for part in weights.header_parts(file)))
        write_parts((fd,), weights.all_data())
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
        os.close(fd)


def test_four_gibibytes_are_described_without_being_generated() -> None:
    weights = Weights.from_seed(7, 4096 * MIB)
    assert sum(file.size for file in weights.files()) > 4096 * MIB
    assert len(weights.read(4095 * MIB, 100)) == 100
    assert weights.tensors[-1].end == weights.total


def test_anchors_are_all_positions_of_the_marker_within_a_tensor() -> None:
    weights = Weights.from_seed(8, 4 * MIB)
    anchors, content = weights.anchors(), whole(weights)
    expected = []
    for tensor in weights.tensors:
        at = content.find(anchors.marker, tensor.offset)
        while at >= 0 and at + 2 + ANCHOR_BYTES <= tensor.end:
            expected.append((at, content[at + 2 : at + 2 + ANCHOR_BYTES]))
            at = content.find(anchors.marker, at + 1)
    assert [(anchor.offset, anchor.content) for anchor in anchors] == expected
    assert len(anchors) == len(expected) > 20


@given(seed=st.integers(0, 2**64), shards=st.integers(1, 9), rows=st.integers(SMALL // ROW_BYTES, 4096))
@settings(max_examples=30, deadline=None)
def test_the_parts_of_all_files_are_their_data_and_leave_the_anchors_behind(seed: int, shards: int, rows: int) -> None:
    weights = Weights.from_seed(seed, rows * ROW_BYTES, shards)
    written = [bytearray(file.header) for file in weights.files()]
    for number, position, part in weights.all_data():
        assert position == len(written[number])
        written[number] += part
    expected = [file.header + b"".join(bytes(part) for _, part in weights.data_parts(file)) for file in weights.files()]
    assert written == expected
    assert "_anchors" in vars(weights)
    assert weights.anchors() == Weights.from_seed(seed, rows * ROW_BYTES, shards).anchors()


def test_parts_that_were_not_all_requested_leave_no_anchors_behind() -> None:
    weights = Weights.from_seed(9, 2 * MIB)
    next(weights.all_data())
    assert "_anchors" not in vars(weights)
    assert weights.anchors() == Weights.from_seed(9, 2 * MIB).anchors()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_the_smallest_sure_run_is_exact(seed: int) -> None:
    weights = Weights.from_seed(seed, 512 * 1024)
    anchors = weights.anchors()
    offsets = [anchor.offset for anchor in anchors]

    def holds_an_anchor(start: int, length: int) -> bool:
        after = bisect_left(offsets, start)
        return after < len(offsets) and offsets[after] + 2 + ANCHOR_BYTES <= start + length

    def every_run_does(length: int) -> bool:
        return all(holds_an_anchor(start, length) for start in range(weights.total - length + 1))

    assert every_run_does(anchors.smallest_sure_run)
    assert not every_run_does(anchors.smallest_sure_run - 1)


def test_weights_without_an_anchor_have_no_sure_run() -> None:
    without = next(w for w in (Weights.from_seed(seed, SMALLEST_SIZE) for seed in range(100)) if not w.anchors())
    assert without.anchors().smallest_sure_run > without.total


def test_anchors_are_a_sequence() -> None:
    anchors = Weights.from_seed(8, MIB).anchors()
    assert anchors[1:3] == (anchors[1], anchors[2])
    assert anchors[-1] == list(anchors)[-1]
    with pytest.raises(IndexError):
        anchors[len(anchors)]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (SMALL, 1), (SMALL - 1, 2)])
def test_a_range_outside_the_weights_is_refused(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="is outside"):
        Weights.from_seed(0, SMALL).read(offset, length)


@pytest.mark.parametrize(("size", "shards"), [(0, 1), (1024, 1), (SMALL + 1, 1), (SMALL, 0), (SMALL, 10)])
def test_impossible_shapes_are_refused(size: int, shards: int) -> None:
    with pytest.raises(ValueError, match="give a"):
        Weights.from_seed(0, size, shards)


@given(
    block=st.lists(st.sampled_from(b"\x80\x81\xff"), max_size=60).map(bytes),
    pair=st.lists(st.sampled_from(b"\x80\x81"), min_size=2, max_size=2).map(bytes),
)
def test_a_pair_is_found_at_every_position(block: bytes, pair: bytes) -> None:
    scratch = bytearray(b"\1" * 40)
    everywhere = re.finditer(b"(?=" + re.escape(pair) + b")", block, re.DOTALL)
    assert find_pair(memoryview(block), pair, scratch) == [hit.start() for hit in everywhere]


def parts_of(content: bytes, lengths: Sequence[int]) -> Iterator[memoryview]:
    begin = 0
    for length in (*lengths, len(content)):
        if part := content[begin : begin + length]:
            yield memoryview(part)
        begin += length


@given(
    content=st.lists(st.sampled_from(b"\x80\x81\xff"), min_size=1, max_size=200).map(bytes),
    lengths=st.lists(st.integers(1, 90), max_size=5),
)
def test_parts_of_any_length_give_the_same_anchors_as_the_whole(content: bytes, lengths: list[int]) -> None:
    tensor = Tensor("it", 1024, len(content))
    searches = [_AnchorSearch(b"key"), _AnchorSearch(b"key")]
    for search in searches:
        search._marker = b"\x80\x80"  # overlaps itself
    for part in parts_of(content, lengths):
        searches[0].add(tensor, part)
    searches[1].add(tensor, memoryview(content))
    expected = [hit for hit in re.finditer(b"\x80\x80", content) if hit.start() + 2 + ANCHOR_BYTES <= len(content)]
    found = [search.found(2048) for search in searches]
    assert found[0] == found[1]
    assert [one.offset for one in found[0]] == [1024 + hit.start() for hit in expected]
    assert [one.content for one in found[0]] == [content[hit.end() : hit.end() + ANCHOR_BYTES] for hit in expected]
