"""`redline report`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from redline._errors import ExitCode

Format = Literal["html", "md", "json", "pdf"]


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folder of a run; several are compared.")],
    format_: Annotated[
        Format, typer.Option("--format", help="html and pdf go to a file, md and json to the standard output.")
    ] = "html",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write.  [default: DIR/report.html; of several ./comparison.html]"),
    ] = None,
) -> int:
    """Builds the report of a run again, from its results and evidence alone; several runs are compared.

    Every trial is judged again. Where a file is missing, altered or of another version, the report says so at its top,
    and the exit code is 6.

    Examples: redline report out/first; redline report out/plain out/guarded --out both.html;
    redline report out/first --format md
    """
    from redline._text import clean_line
    from redline.report import as_text, print_table, read_run, report_on, write_page

    records = [read_run(folder) for folder in folders]
    found = report_on(records)
    match format_:
        case "md" | "json":
            text = as_text(found, format_)
            if out is None:
                print(text, end="")
            else:
                write_page(found, out, folders, text=text)
        case "html" | "pdf":
            alone = len(folders) == 1
            target = out or (folders[0] / f"report.{format_}" if alone else Path(f"comparison.{format_}"))
            write_page(found, target, folders, as_pdf=format_ == "pdf")
            for record in records:
                if record.results is not None:
                    print_table(record.results)
            print(f"Report: {target}")
    for run in found.runs:
        for line in (*run.notes, *run.faults):
            typer.echo(f"redline: {clean_line(run.name)}: {line}", err=True)
    return ExitCode.EVIDENCE if found.doubtful else ExitCode.OK
