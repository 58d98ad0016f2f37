"""Drawing the trials of a plan and saying what came of them, as every command does that runs one."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from redline._cli._say import say

if TYPE_CHECKING:
    from redline.plan import Plan
    from redline.results import Results
    from redline.run import Options


def run_and_print(  # noqa: PLR0913 - what to run, and how to say it
    plan: "Plan",
    out: Path,
    options: "Options",
    print_table: "Callable[[Results], None]",
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    """Draws what is left of a plan, writes its report and prints its results; returns the exit code."""
    from redline._cli._progress import progress_on
    from redline.report import write_report
    from redline.run import RunFolder, run_plan

    folder = RunFolder(out)
    elsewhere = io.StringIO() if quiet else sys.stderr  # what libraries print is no result
    with redirect_stdout(elsewhere), progress_on(quiet=quiet) as progress:
        outcome = run_plan(plan, folder, progress, options)
    faults = [fault for seen in write_report(folder.root).runs for fault in seen.faults]
    if as_json:
        print(outcome.results.document(), end="")
    else:
        print_table(outcome.results)
        print(f"Evidence: {folder.evidence}  Report: {folder.report}")
    for remark in (*outcome.remarks, *faults):
        say(remark)
    return outcome.exit_code
