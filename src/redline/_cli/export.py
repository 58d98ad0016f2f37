"""`redline export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from redline._errors import ExitCode


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    format_: Annotated[
        Literal["csv", "parquet"],
        typer.Option("--format", help="Format: csv is printed, parquet is written to a file."),
    ] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write.  [default: stdout for csv, DIR/trials.parquet for parquet]"),
    ] = None,
) -> int:
    """Write one row per trial: outcome, milestones, factors, measures, time and cost.

    Every trial is judged again first. If a file is missing, altered or of another version, nothing is written and the
    exit code is 6.
    """
    from redline.analysis import export_text, load, write_export

    table = load(folder).trial_table()
    if format_ == "csv" and out is None:
        print(export_text(table), end="")
        return ExitCode.OK
    target = out or folder / "trials.parquet"
    write_export(table, target, format_)
    print(f"Export: {target}")
    return ExitCode.OK
