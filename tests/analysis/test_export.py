"""CSV and Parquet contain the same table; a spreadsheet program evaluates no cell of the CSV."""

import csv
import io
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from redline._errors import UsageError
from redline.analysis.export import export_text, parquet, write_export
from redline.analysis.tables import Table, trial_table
from tests.builders import judged, results

HOSTILE = ("=1+1", "+1", "-1", "@SUM(A1)", "a,b", 'a"b', "a;b", "\ud800", "\x00")


def table() -> Table:
    odd = [judged("invalid", number, invalid_reason=text, tokens=None) for number, text in enumerate(HOSTILE)]
    return trial_table(results(judged("replicated", len(HOSTILE), cost=0.25, measures={"big": 2**64}), *odd))


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_one_row_per_trial() -> None:
    *others, whole = rows_of(export_text(table()))
    assert len(others) == len(HOSTILE)
    assert (whole["outcome"], whole["attempted"], whole["cost"], whole["seconds"]) == (
        "replicated",
        "true",
        "0.25",
        "1.0",
    )
    assert {row["tokens"] for row in others} == {""}


def test_no_cell_of_the_csv_is_a_formula() -> None:
    reasons = [row["invalid_reason"] for row in rows_of(export_text(table()))]
    assert not [text for text in reasons if text.startswith(("=", "+", "-", "@"))]
    assert "'=1+1" in reasons
    assert 'a"b' in reasons


def test_parquet_has_the_same_rows_with_their_types() -> None:
    read = pq.read_table(io.BytesIO(parquet(table())))
    assert read.num_rows == len(HOSTILE) + 1
    types = {field.name: str(field.type) for field in read.schema}
    assert (types["seed"], types["attempted"], types["seconds"], types["outcome"]) == (
        "int64",
        "bool",
        "double",
        "string",
    )
    assert read.column("measure_big").to_pylist()[-1] == float(2**64)
    assert read.column("invalid_reason").to_pylist()[0] == "=1+1"


def test_without_pyarrow_parquet_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pyarrow is not installed.*redline\[analysis\]"):
        parquet(table())


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another --out"):
        write_export(table(), tmp_path / "no/such/trials.csv", "csv")
