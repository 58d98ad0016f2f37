"""Write the trials of a run as CSV or Parquet."""

import csv
import io
from pathlib import Path
from typing import Literal, get_args

from redline._errors import UsageError
from redline.analysis.tables import Kind, Table, Value, missing
from redline.run.folder import write_bytes

ExportFormat = Literal["csv", "parquet"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that a spreadsheet program evaluates."""


def export_text(table: Table) -> str:
    """Return a table as CSV: empty cells for missing values, `true` and `false` for booleans.

    A text that a spreadsheet program would evaluate as a formula starts with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in table.columns])
    writer.writerows([_cell(row.get(name)) for name in table.columns] for row in table.rows)
    return text.getvalue()


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return repr(value)


def write_export(table: Table, target: Path, form: ExportFormat) -> None:
    """Write a table to a file.

    Raises:
        UsageError: The file cannot be written, or pyarrow is not installed.
    """
    content = export_text(table).encode() if form == "csv" else parquet(table)
    try:
        write_bytes(target, content)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; choose another --out") from error


def parquet(table: Table) -> bytes:
    """Return a table as the bytes of a Parquet file.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(missing("pyarrow")) from error
    types: dict[Kind, pa.DataType] = {
        "text": pa.string(),
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in table.columns.items()])
    rows = [{name: row.get(name) for name in table.columns} for row in table.rows]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()
