"""Run a plan for the user: progress first, then results and remarks."""

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from redline._cli._messages import print_message

if TYPE_CHECKING:
    from redline.plan import Plan
    from redline.results import Results
    from redline.run import RunFolder, RunOptions, RunOutcome, Watcher
    from redline.run.parts.merge import MergeOptions


def run_and_report(
    plan: "Plan",
    out: Path,
    options: "RunOptions",
    show: "Callable[[Results], None]",
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Run a plan in a folder, write its report and print the results.

    Args:
        plan: The plan.
        out: Folder of the run.
        options: Options of the run.
        show: Function that prints the results as text.
        quiet: Whether to suppress progress.
        as_json: Whether to print the results as JSON instead of text.

    Returns:
        The exit code.
    """
    from redline.run import RunFolder, run_plan

    folder = RunFolder(out)
    return _report(
        folder, lambda progress: run_plan(plan, folder, progress, options), show, quiet=quiet, as_json=as_json
    )


def run_in_parts(
    out: Path,
    run: "Callable[[RunFolder, Watcher], RunOutcome]",
    show: "Callable[[Results], None]",
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Run a plan in parts and merge them, then as `run_and_report`.

    Args:
        out: Folder of the merged run.
        run: Runs the parts.
        show: Function that prints the results as text.
        quiet: Whether to suppress progress.
        as_json: Whether to print the results as JSON instead of text.
    """
    from redline.run import RunFolder

    folder = RunFolder(out)
    return _report(folder, lambda progress: run(folder, progress), show, quiet=quiet, as_json=as_json)


def merge_and_report(
    paths: "Sequence[Path]",
    out: Path,
    options: "MergeOptions",
    show: "Callable[[Results], None]",
    *,
    as_json: bool = False,
) -> int:
    """Merge the parts of a run, then as `run_and_report`."""
    from redline.run import RunFolder
    from redline.run.parts.merge import merge

    return _report(RunFolder(out), lambda _: merge(paths, out, options), show, quiet=True, as_json=as_json)


def _report(
    folder: "RunFolder",
    run: "Callable[[Watcher], RunOutcome]",
    show: "Callable[[Results], None]",
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    from redline._cli._progress import progress_on
    from redline._memory import collecting_trials
    from redline.report import write_report
    from redline.report.console import print_list, stdout_console

    library_output = io.StringIO() if quiet else sys.stderr  # stdout holds results only
    with redirect_stdout(library_output), progress_on(quiet=quiet) as progress, collecting_trials():
        outcome = run(progress)
    faults = [fault for seen in write_report(folder.root).runs for fault in seen.faults]
    if as_json:
        print(outcome.results.document(), end="")
    else:
        show(outcome.results)
        print_list(stdout_console(), [f"Evidence: {folder.evidence}", f"Report: {folder.report}"])
    for remark in (*outcome.remarks, *faults):
        print_message(remark)
    return outcome.exit_code
