"""`redline verify`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._cli._say import say
from redline._errors import ExitCode, UsageError


def verify(
    where: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="An evidence file, or the folder of a run.")],
    key: Annotated[
        Path | None, typer.Option(metavar="PUB", help="Ed25519 public key whose signature the folder must bear.")
    ] = None,
) -> int:
    """Judges stored evidence again, with no cell and no model.

    Compares with what the results say. Exit code 6 where a file of the run is missing, altered or strange, or leads to
    another verdict.
    """
    from redline.run import verify_file, verify_folder
    from redline.run.signature import read_public_key

    signer = None if key is None else read_public_key(key)
    if where.is_file():
        if signer is not None:
            raise UsageError("a signature is of a whole run: give --key with the folder of the run")
        verdict, notes = verify_file(where)
        for note in notes:
            say(note)
        print(f"{where.name}: {verdict.outcome}")
        return ExitCode.OK
    checked = verify_folder(where, signer)
    for line in (*checked.notes, *checked.faults):
        say(line)
    print(f"{checked.right} of {checked.trials} trials: the evidence is unaltered and leads to the same verdict")
    if checked.faults:
        return ExitCode.EVIDENCE
    if checked.signed_by is not None:
        whose = "signed by this key" if signer is not None else "signed; --key PUB tells whether by the one you know"
        print(f"{whose}: {checked.signed_by}")
    return ExitCode.OK
