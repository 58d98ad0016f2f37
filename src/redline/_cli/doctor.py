"""`redline doctor`."""

from typing import Annotated

import typer

from redline._errors import ExitCode


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")] = False,
) -> int:
    """Says what this machine can do, and what to type about the rest.

    Every runtime that is installed is tried: a cell is made, probed and removed. Of keys only the names of their
    variables are shown. What is `missing` keeps every run from being possible, and makes the exit code 2.
    """
    import json

    from redline._cli._examine import examine
    from redline._text import LONGEST_LINE, clean_line

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            mend = f"\n{'':<10}-> {finding.mend}" if finding.mend else ""
            print(
                f"{finding.state:<9} {clean_line(f'{finding.what}: {finding.found}', LONGEST_LINE)}{mend}", flush=True
            )
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    missing = [finding.what for finding in findings if finding.state == "missing"]
    if not as_json:
        print(f"no run is possible before this is mended: {', '.join(missing)}" if missing else "a run is possible")
    return ExitCode.USAGE if missing else ExitCode.OK
