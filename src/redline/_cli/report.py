"""`redline report`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._errors import ExitCode


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
) -> int:
    """Builds table and report.html again from the results of a run."""
    from redline.report import print_table, write_report
    from redline.run import RunFolder
    from redline.run.folder import read_results

    results = read_results(RunFolder(folder))
    write_report(results, RunFolder(folder).report)
    print_table(results)
    return ExitCode.OK
