"""A file that is not a language model is refused in one line, before any server is started."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redline.models.gguf_header import GgufError, read_gguf
from tests.local_server import CONTEXT, HEADS, WIDTH, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    write_model(path)
    return path


def write_header(path: Path, architecture: str, add: Callable[[gguf.GGUFWriter], None] = lambda writer: None) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def why(path: Path) -> str:
    with pytest.raises(GgufError) as caught:
        read_gguf(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_header_matches_what_the_gguf_package_wrote(model: Path) -> None:
    header = read_gguf(model)
    assert (header.architecture, header.trained_context, header.chat_template) == ("llama", CONTEXT, None)
    assert header.size == model.stat().st_size
    assert header.kv_bytes_per_token() == 1 * HEADS * 2 * (WIDTH // HEADS) * 2


def test_values_that_differ_by_layer_are_summed(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(3)
        writer.add_embedding_length(64)
        writer.add_head_count(8)
        writer.add_head_count_kv([8, 0, 2])
        writer.add_key_length(16)
        writer.add_value_length(4)
        writer.add_chat_template("{{ messages }}")

    header = read_gguf(write_header(tmp_path / "m.gguf", "llama", add))
    assert header.kv_bytes_per_token() == (8 + 0 + 2) * (16 + 4) * 2
    assert header.chat_template == "{{ messages }}"


def test_an_incomplete_header_leaves_the_cache_size_unknown(tmp_path: Path) -> None:
    assert read_gguf(write_header(tmp_path / "m.gguf", "mamba")).kv_bytes_per_token() is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a GGUF file"),
        (b"a text", "is not a GGUF file"),
        (b"GGUF", "is truncated in its header"),
        (b"GGUF" + (1).to_bytes(4, "little"), "is a GGUF file of version 1"),
        (b"GGUF" + (3).to_bytes(4, "big"), "is a GGUF file of version 50331648"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, "is damaged: its header has"),
        (b"GGUF" + (3).to_bytes(4, "little") + bytes(16), "does not name its architecture"),
    ],
)
def test_an_invalid_gguf_file_is_refused_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    assert why(path).startswith(reason)


def test_a_path_that_is_not_a_file_is_refused_without_waiting_for_a_pipe(tmp_path: Path) -> None:
    assert why(tmp_path / "none.gguf") == "cannot be read: No such file or directory"
    assert why(tmp_path) == "is a directory: use the .gguf file in it"
    os.mkfifo(tmp_path / "pipe.gguf")
    assert why(tmp_path / "pipe.gguf") == "is not a regular file"
    assert why(Path("/dev/zero")) == "is not a regular file"
    assert why(tmp_path / ("x" * 300)) == "cannot be read: File name too long"
    assert why(Path("a\0b")) == "cannot be read: embedded null byte"


@pytest.mark.parametrize(
    ("architecture", "add", "reason"),
    [
        ("bert", lambda writer: None, "contains an embedding model (bert)"),
        (
            "qwen3",
            lambda writer: writer.add_pooling_type(gguf.PoolingType.LAST),
            "contains an embedding model (qwen3)",
        ),
        ("llama", lambda writer: writer.add_causal_attention(False), "contains an embedding model (llama)"),
        ("llama", lambda writer: writer.add_type("adapter"), "contains only a part of a model (adapter)"),
        ("clip", lambda writer: writer.add_type("mmproj"), "contains only a part of a model (mmproj)"),
    ],
)
def test_a_model_that_generates_no_text_is_refused(
    architecture: str, add: Callable[[gguf.GGUFWriter], None], reason: str, tmp_path: Path
) -> None:
    assert why(write_header(tmp_path / "m.gguf", architecture, add)).startswith(reason)


def test_a_split_model_needs_all_its_parts_and_its_first_one(model: Path, tmp_path: Path) -> None:
    def of_two(number: int) -> Path:
        def add(writer: gguf.GGUFWriter) -> None:
            writer.add_uint16("split.count", 2)
            writer.add_uint16("split.no", number)

        return write_header(tmp_path / f"m-0000{number + 1}-of-00002.gguf", "llama", add)

    first, second = of_two(0), of_two(1)
    header = read_gguf(first)
    assert header.files == (first, second)
    assert header.size == first.stat().st_size + second.stat().st_size
    assert why(second) == "is not the first part of its model: use m-00001-of-00002.gguf"
    second.unlink()
    assert why(first).startswith("is split into 2 files, of which m-00002-of-00002.gguf cannot be read")
    renamed = shutil.move(first, tmp_path / "other.gguf")
    assert "does not follow llama.cpp" in why(Path(renamed))


@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.999)
def test_a_truncated_model_is_read_or_refused(model: Path, share: float) -> None:
    path = model.with_name("cut.gguf")
    path.write_bytes(model.read_bytes()[: int(model.stat().st_size * share)])
    try:
        read_gguf(path)  # the server detects an end within the last tensor
    except GgufError as error:
        assert re.match("is truncated|is not a GGUF", str(error))


@pytest.mark.long
@settings(max_examples=200)
@given(places=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=20))
def test_no_header_makes_the_reader_fail(model: Path, places: list[tuple[int, int]]) -> None:
    content = bytearray(model.read_bytes())
    for place, byte in places:
        content[place] = byte
    path = model.with_name("bent.gguf")
    path.write_bytes(content)
    try:
        header = read_gguf(path)
    except GgufError as error:
        assert "\n" not in str(error)
    else:
        assert (header.kv_bytes_per_token() or 0) >= 0
        assert header.trained_context is None or header.trained_context > 0
