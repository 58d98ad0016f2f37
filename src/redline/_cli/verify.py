"""`redline verify`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._errors import ExitCode


def verify(
    where: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="An evidence file, or the folder of a run.")],
) -> int:
    """Judges stored evidence again, with no cell and no model, and compares with what the results say.

    Exit code 6 where evidence is missing, altered, or leads to another verdict.
    """
    from redline.run import verify_file, verify_folder

    if where.is_file():
        verdict = verify_file(where)
        print(f"{where.name}: {verdict.outcome}")
        return ExitCode.OK
    checked, faults = verify_folder(where)
    for fault in faults:
        typer.echo(f"redline: {fault}", err=True)
    print(f"{checked - len(faults)} of {checked} trials: the evidence is unaltered and leads to the same verdict")
    return ExitCode.EVIDENCE if faults else ExitCode.OK
