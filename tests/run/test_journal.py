"""A record is one line, and only a line feed ends a line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from redline._errors import EvidenceError
from redline.run.journal import append, entries


class Record(BaseModel):
    text: str


MARKS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\r\n", "\n"]


@pytest.mark.parametrize("mark", MARKS)
def test_a_record_with_any_line_separator_is_read_back_complete(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "journal"
    records = [Record(text=f"before{mark}after"), Record(text=mark), Record(text="last")]
    for record in records:
        append(path, record)
    assert entries(path, Record) == tuple(records)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_texts_are_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    for text in texts:
        append(path, Record(text=text.encode(errors="replace").decode()))
    assert [record.text for record in entries(path, Record)] == [t.encode(errors="replace").decode() for t in texts]


def test_an_empty_line_is_not_a_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    append(path, Record(text="a"))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(EvidenceError, match="altered"):
        entries(path, Record)


def test_an_empty_file_has_no_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    assert entries(path, Record) == ()
