"""`redline doctor`."""

from typing import Annotated

import typer

from redline._cli import _completion
from redline._errors import ExitCode


def doctor(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Try this model's server, and nothing else; may be repeated.",
            autocompletion=_completion.model,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")] = False,
) -> int:
    """Says what this machine can do, and what to type about the rest.

    Every runtime that is installed is tried: a cell is made, probed and removed. Of keys only the names of their
    variables are shown. What is `missing` keeps every run from being possible, and makes the exit code 2. With --model
    the servers of these models are tried instead, as a run does before its first trial.
    """
    import json

    from redline._cli._examine import examine
    from redline._cli._examine_models import tried_models
    from redline._text import LONGEST_LINE, clean_line

    findings = []
    for finding in tried_models(model) if model else examine():
        findings.append(finding)
        if not as_json:
            fix = f"\n{'':<10}-> {clean_line(finding.fix, LONGEST_LINE)}" if finding.fix else ""
            print(f"{finding.state:<9} {clean_line(f'{finding.what}: {finding.found}', LONGEST_LINE)}{fix}", flush=True)
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    missing = [finding.what for finding in findings if finding.state == "missing"]
    if not as_json:
        print(f"no run is possible before this is mended: {', '.join(missing)}" if missing else "a run is possible")
    return ExitCode.USAGE if missing else ExitCode.OK
