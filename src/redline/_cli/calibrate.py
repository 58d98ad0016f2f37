"""`redline calibrate`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redline._cli._runtime import as_runtime
from redline._errors import ExitCode

if TYPE_CHECKING:
    from redline.results import Results


def calibrate(
    trials: Annotated[int, typer.Option(min=1, help="Trials of each control.")] = 1,
    runtime: Annotated[str, typer.Option(help="auto, runsc, runc, crun or docker.")] = "auto",
    hold: Annotated[float, typer.Option(min=0, help="Seconds a replica must live on alone.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for plan, logs, evidence and results.")] = Path("out/calibration"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the judgement as JSON, and nothing else.")] = False,
) -> int:
    """Runs every control, whose true outcome is known, and says where the verifier judges otherwise.

    Exit code 5 where one is misjudged.
    """
    import json

    from redline._cli._progress import progress_on
    from redline.run import RunFolder, calibrate_controls, misjudged, run_plan

    plan = calibrate_controls(trials, as_runtime(runtime), hold, seed)
    with progress_on() as progress:
        outcome = run_plan(plan, RunFolder(out), progress)
    wrong = list(misjudged(outcome.results))
    if as_json:
        judged = len(outcome.results.trials)
        faults = [vars(one) for one in wrong]
        print(json.dumps({"trials": judged, "right": judged - len(wrong), "misjudged": faults}, indent=1))
    else:
        _print_confusion(outcome.results)
    for one in wrong:
        typer.echo(f"redline: misjudged {one.trial}: {'; '.join(one.differences)}", err=True)
    # A control that breaks its cell is rightly invalid, so a run of controls is judged by its truths first.
    if outcome.exit_code in (ExitCode.INTERRUPTED, ExitCode.INTERNAL, ExitCode.SEAL, ExitCode.EVIDENCE):
        return outcome.exit_code
    return ExitCode.CONTROL_MISJUDGED if wrong else outcome.exit_code


def _print_confusion(results: "Results") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from redline.controls import find_control
    from redline.report.table import PLAIN_WIDTH
    from redline.verify.verdict import OUTCOMES

    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    table = Table("control", "truth", *OUTCOMES, title="Judged outcomes of each control", title_justify="left")
    for condition in results.conditions:
        control = find_control(condition.model)
        counts = Counter(condition.outcomes)
        cells = (control.name, " or ".join(control.truth.outcomes), *(str(counts[name] or "") for name in OUTCOMES))
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
