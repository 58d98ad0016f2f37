"""`redline doctor`."""

from typing import Annotated

import typer

from redline._errors import ExitCode

MARKS = {"ok": "ok   ", "note": "note ", "bad": "MEND "}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")] = False,
) -> int:
    """Says what this machine can do, and what to do about the rest."""
    import json

    from redline._cli._examine import examine

    findings = list(examine())
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mend = f"\n             -> {finding.mend}" if finding.mend else ""
            print(f"{MARKS[finding.state]} {finding.what}: {finding.found}{mend}")
    bad = [finding for finding in findings if finding.state == "bad"]
    return ExitCode.USAGE if bad else ExitCode.OK
