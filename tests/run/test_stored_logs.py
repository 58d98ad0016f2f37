"""Logs that Inspect resumed before their first sample was finished; test_hostile_folders.py has the others."""

import io
from pathlib import Path
from zipfile import ZipFile

import pytest

from redline._errors import EvidenceError
from redline._records import Records
from redline.run.stored_logs import check_log

MEMBERS = {"_journal/start.json": b"{}", "header.json": b"{}"}


def archive(before: bytes = b"") -> bytes:
    """Return an archive whose directory counts from the start of the file, as Inspect writes it."""
    file = io.BytesIO(before)
    with ZipFile(file, "a") as log:
        for name, content in MEMBERS.items():
            log.writestr(name, content)
    return file.getvalue()


def checked(root: Path, content: bytes) -> None:
    (root / "logs").mkdir()
    (root / "logs" / "a.eval").write_bytes(content)
    check_log(Records(root), "logs/a.eval")


def test_a_log_whose_first_member_was_written_twice_is_read(tmp_path: Path) -> None:
    whole = archive()
    with ZipFile(io.BytesIO(whole)) as log:
        second = log.infolist()[1].header_offset
    checked(tmp_path, archive(whole[:second]))


@pytest.mark.parametrize("before", [b"x", b"PK\3\4", b"x" * 5000])
def test_a_log_with_data_before_the_archive_is_refused(tmp_path: Path, before: bytes) -> None:
    with pytest.raises(EvidenceError, match="outside the members"):
        checked(tmp_path, before + archive())
