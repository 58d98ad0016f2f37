"""`redline calibrate`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redline._bounds import MAX_TRIALS
from redline._cli import _completion, _options
from redline._cli._runtime import as_runtime
from redline._cli._say import say
from redline._errors import ExitCode, UsageError

if TYPE_CHECKING:
    from redline.results import Calibration
    from redline.run import RunOutcome

NOT_KEPT = (ExitCode.INTERRUPTED, ExitCode.INTERNAL, ExitCode.SEAL, ExitCode.EVIDENCE)
"""Ends of a run after which its trials are not all there, or are not to be relied on."""


def calibrate(
    trials: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_TRIALS,
            help="Trials of each control that is asked outright; in other arms, controls run once.",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON, and nothing else.")] = False,
) -> int:
    """Runs every control and says where the verifier is wrong.

    The true outcome of each is known. Every later run of this version on this runtime bears the result. Exit code 5
    where a control is misjudged.
    """
    from redline._cli._progress import progress_on
    from redline.cell.runtime import choose_runtime
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
    if as_json:
        print(calibration.model_dump_json(indent=1))
    else:
        _print(calibration)
    for one in calibration.misjudged:
        say(f"misjudged {one.trial}: {'; '.join(one.differences)}")
    if outcome.exit_code in NOT_KEPT or calibration.trials < plan.planned_trials:
        say("not kept as this machine's calibration: it is not complete")
        return outcome.exit_code
    path = keep_calibration(calibration)
    say(f"kept in {path}: runs of this version on {chosen} bear it")
    # A control that breaks its cell is rightly invalid, so a run of controls is judged by its truths alone.
    return ExitCode.CONTROL_MISJUDGED if calibration.misjudged else ExitCode.OK


def _ended(outcome: "RunOutcome", folder: Path) -> datetime | None:
    """When the last trial ended; None where none was drawn.

    Raises:
        UsageError: The folder holds trials that another version judged, which say nothing about this one.
    """
    from redline import __version__

    if others := outcome.versions - {__version__}:
        raise UsageError(f"{folder} holds trials that redline {', '.join(sorted(others))} judged; choose another --out")
    return None if outcome.ended is None else datetime.fromisoformat(outcome.ended)


def _print(calibration: "Calibration") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from redline.report.table import PLAIN_WIDTH
    from redline.report.words import calibration_lines
    from redline.verify.verdict import OUTCOMES

    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    columns = ("family", "truth", "controls", "trials", "right", *OUTCOMES)
    table = Table(*columns, title="Judged outcomes of the controls, by family and truth", title_justify="left")
    for row in calibration.confusion:
        counts = (row.controls, row.trials, row.right, *(row.judged[name] or "" for name in OUTCOMES))
        table.add_row(*(Text(str(cell)) for cell in (row.family, " or ".join(row.truth), *counts)))
    console.print(table)
    for line in calibration_lines(calibration):
        console.print(Text(line))
