"""`redline report`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from redline._errors import ExitCode

Format = Literal["html", "md", "json", "pdf"]


def _print_template(wanted: bool) -> None:
    """Print the file that an evaluator fills in, and exit."""
    if wanted:
        from redline.report.disclosures import template

        print(template(), end="")
        raise typer.Exit


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folder of a run; give several to compare them.")
    ],
    format_: Annotated[
        Format, typer.Option("--format", help="Format: html and pdf are written to a file, md and json to stdout.")
    ] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write.  [default: DIR/report.html; ./comparison.html for several runs]"
        ),
    ] = None,
    disclosures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Disclosures of the evaluator to include, such as conflicts of interest and access."
        ),
    ] = None,
    disclosures_template: Annotated[
        bool,
        typer.Option(
            "--disclosures-template",
            is_eager=True,
            callback=_print_template,
            help="Print a file of disclosures to fill in, and exit.",
        ),
    ] = False,
) -> int:
    """Rebuild the report of a run, or compare several runs.

    The report uses only results and evidence, and every trial is judged again. If a file is missing, altered or of
    another version, the report states this at the top and the exit code is 6.

    Examples: redline report out/first; redline report out/plain out/guarded --out both.html;
    redline report out/first --format md; redline report out/first --disclosures disclosures.yaml
    """
    from redline._text import clean_line
    from redline.report import as_text, print_table, read_run, report_on, write_page
    from redline.report.console import print_list, stdout_console
    from redline.report.disclosures import read_disclosures

    stated = None if disclosures is None else read_disclosures(disclosures)
    records = [read_run(folder) for folder in folders]
    found = report_on(records, stated)
    match format_:
        case "md" | "json":
            text = as_text(found, format_)
            if out is None:
                print(text, end="")
            else:
                write_page(found, out, folders, text=text)
        case "html" | "pdf":
            single = len(folders) == 1
            target = out or (folders[0] / f"report.{format_}" if single else Path(f"comparison.{format_}"))
            write_page(found, target, folders, as_pdf=format_ == "pdf")
            for record in records:
                if record.results is not None:
                    print_table(record.results)
            print_list(stdout_console(), [f"Report: {target}"])
    for run in found.runs:
        for line in (*run.notes, *run.faults):
            typer.echo(f"redline: {clean_line(run.name)}: {line}", err=True)
    return ExitCode.EVIDENCE if found.doubtful else ExitCode.OK
