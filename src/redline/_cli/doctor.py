"""`redline doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._cli import _completion
from redline._errors import ExitCode

COLOURS = {"ok": "green", "optional": "yellow", "missing": "red"}


def doctor(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Check only this model's server; may be repeated.",
            autocompletion=_completion.model,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a new text file for a bug report: versions, findings, last errors."),
    ] = None,
) -> int:
    """Check this host and print the command that fixes each gap.

    Each installed runtime is tested: a cell is started, probed and removed. API keys are not printed, only the names of
    their variables. The exit code is 2 if a required item is `missing`. With --model, the preflight of a run is
    performed on these models instead.

    The file of --bundle contains no keys, values of environment variables, transcripts, user name or home folder.
    """
    import json

    from redline._cli._bundle import new_bundle, write_bundle
    from redline._cli._host_checks import check_host
    from redline._cli._model_checks import check_models
    from redline._text import LONGEST_LINE, clean_line
    from redline.report.console import print_lines, print_styled, stdout_console, wrapped

    console = stdout_console()
    if bundle is not None:
        new_bundle(bundle)
    findings = []
    for finding in check_models(model) if model else check_host():
        findings.append(finding)
        if not as_json:
            text = clean_line(f"{finding.what}: {finding.found}", LONGEST_LINE)
            start = f"{finding.state:<9} "
            print_styled(console, wrapped(text, console.width, start), finding.state, COLOURS[finding.state])
            if finding.fix:
                fix = clean_line(finding.fix, LONGEST_LINE)
                print_lines(console, wrapped(fix, console.width, f"{'':<10}-> ", f"{'':<13}"))
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    if bundle is not None:
        write_bundle(bundle, findings)
    missing = [finding.what for finding in findings if finding.state == "missing"]
    if not as_json:
        verdict = f"redline cannot run; fix first: {', '.join(missing)}" if missing else "redline can run on this host"
        print_lines(console, wrapped(verdict, console.width))
    return ExitCode.USAGE if missing else ExitCode.OK
