"""Runs a plan for the user: progress while it goes on, then its results, and what else is to be known."""

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
    from redline.run import RunOptions


def carry_out(
    plan: "Plan",
    out: Path,
    options: "RunOptions",
    show: "Callable[[Results], None]",
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Runs a plan in a folder, writes its report, and prints the results; returns the exit code.

    Args:
        plan: The plan.
        out: The folder.
        options: How to run it.
        show: Prints the results for people.
        quiet: Whether nothing is printed while it runs.
        as_json: Whether the results are printed as JSON instead.
    """
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
        show(outcome.results)
        print(f"Evidence: {folder.evidence}  Report: {folder.report}")
    for remark in (*outcome.remarks, *faults):
        say(remark)
    return outcome.exit_code
