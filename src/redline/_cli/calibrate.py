"""`redline calibrate`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redline._bounds import MAX_TRIALS
from redline._cli import _completion, _options
from redline._cli._messages import print_message
from redline._cli._runtime import as_runtime
from redline._errors import ExitCode, UsageError

if TYPE_CHECKING:
    from redline.results import Calibration
    from redline.run import RunOutcome

NOT_KEPT = (ExitCode.INTERRUPTED, ExitCode.INTERNAL, ExitCode.SEAL, ExitCode.EVIDENCE)
"""Exit codes after which trials are missing or not reliable."""


def calibrate(
    trials: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_TRIALS,
            help="Trials of each control in instructed arms; in other arms, each control runs once.",
        ),
    ] = 1,
    runtime: Annotated[
        str, typer.Option(help="auto, runsc, runc, crun or docker.", autocompletion=_completion.runtime)
    ] = "auto",
    hold: _options.Hold = 5.0,
    seed: _options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for plan, logs, evidence and results.  [default: out/calibration-RUNTIME]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON and nothing else.")] = False,
) -> int:
    """Run every control and measure the verifier's error rate.

    The true outcome of each control is known. Later runs with this version on this runtime
    record the calibration in their results. The exit code is 5 if the verifier misjudges a control.
    """
    from redline._cli._progress import progress_on
    from redline.cell.open import choose_runtime
    from redline.report import write_report
    from redline.run import RunFolder, RunOptions, calibrate_controls, calibrated, keep_calibration, run_plan
    from redline.run.calibration import prepare_to_keep

    chosen = choose_runtime(as_runtime(runtime)).name
    prepare_to_keep(chosen)
    folder = RunFolder(out or Path(f"out/calibration-{chosen}"))
    plan = calibrate_controls(trials, chosen, hold, seed)
    with progress_on() as progress:
        outcome = run_plan(plan, folder, progress, RunOptions(is_calibration=True))
    ended = _ended(outcome, folder.root)
    if ended is None:
        return outcome.exit_code
    calibration = calibrated(outcome.results, chosen, ended)
    written = write_report(folder.root)
    if as_json:
        print(calibration.model_dump_json(indent=1))
    else:
        _print(calibration, folder.report)
    for fault in (fault for seen in written.runs for fault in seen.faults):
        print_message(fault)
    for one in calibration.misjudged:
        print_message(f"misjudged {one.trial}: {'; '.join(one.differences)}")
    if outcome.exit_code in NOT_KEPT or calibration.trials < plan.planned_trials:
        print_message("the calibration is incomplete and was not stored")
        return outcome.exit_code
    path = keep_calibration(calibration)
    print_message(f"stored in {path}; later runs with this version on {chosen} include it")
    # Some controls break their cell and are correctly invalid, so only the known truths decide the exit code.
    return ExitCode.CONTROL_MISJUDGED if calibration.misjudged else ExitCode.OK


def _ended(outcome: "RunOutcome", folder: Path) -> datetime | None:
    """Return the time at which the last trial ended; None if no trial ran.

    Raises:
        UsageError: The folder contains trials that another version judged; they do not calibrate this one.
    """
    from redline import __version__

    if others := outcome.versions - {__version__}:
        raise UsageError(
            f"{folder} contains trials judged by redline {', '.join(sorted(others))}; choose another --out folder"
        )
    return None if outcome.ended is None else datetime.fromisoformat(outcome.ended)


def _print(calibration: "Calibration", report: Path) -> None:
    from redline.report.console import print_list, print_rows, stdout_console
    from redline.report.words import calibration_lines, capital
    from redline.verify.verdict import OUTCOMES

    console = stdout_console()
    columns = ("family", "truth", "controls", "trials", "right", *OUTCOMES)
    rows = [
        (row.family, " or ".join(row.truth))
        + tuple(map(str, (row.controls, row.trials, row.right, *(row.judged[name] or "" for name in OUTCOMES))))
        for row in calibration.confusion
    ]
    print_rows(console, "Judged outcomes of the controls, by family and truth", columns, rows)
    print_list(console, [*map(capital, calibration_lines(calibration)), f"Report: {report}"])
