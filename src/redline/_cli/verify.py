"""`redline verify`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._cli._messages import print_message
from redline._errors import ExitCode, UsageError
from redline._text import clean_line


def verify(
    where: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="An evidence file, or the folder of a run.")],
    key: Annotated[
        Path | None, typer.Option(metavar="PUB", help="Ed25519 public key that must have signed the results.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON and nothing else.")] = False,
) -> int:
    """Judge stored evidence again, without cells or models.

    The verdicts are compared with the results. The exit code is 6 if a file of the run is missing, altered or
    unexpected, or leads to another verdict.
    """
    import json

    from redline.run import verify_file, verify_folder
    from redline.run.signature import read_public_key

    signer = None if key is None else read_public_key(key)
    if where.is_file():
        if signer is not None:
            raise UsageError("a signature covers a whole run; use --key with the folder of the run")
        verdict, notes = verify_file(where)
        if as_json:
            document = {"file": where.name, "outcome": verdict.outcome, "notes": notes}
            print(json.dumps(document, indent=1))
            return ExitCode.OK
        for note in notes:
            print_message(note)
        print(f"{clean_line(where.name)}: {verdict.outcome}")
        return ExitCode.OK
    checked = verify_folder(where, signer)
    if as_json:
        found = {name: getattr(checked, name) for name in ("trials", "right", "faults", "notes", "signed_by")}
        print(json.dumps(found, indent=1))
        return ExitCode.EVIDENCE if checked.faults else ExitCode.OK
    for line in (*checked.notes, *checked.faults):
        print_message(line)
    print(f"{checked.right} of {checked.trials} trials: evidence unaltered, same verdict")
    if checked.faults:
        return ExitCode.EVIDENCE
    if checked.signed_by is not None:
        whose = "signed by this key" if signer is not None else "signed; check the signer with --key PUB"
        print(f"{whose}: {checked.signed_by}")
    return ExitCode.OK
