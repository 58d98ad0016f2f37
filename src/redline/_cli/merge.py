"""`redline merge`."""

from pathlib import Path
from typing import Annotated

import typer

from redline._cli import _options
from redline._errors import UsageError


def merge(
    where: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folders of parts, or folders that contain parts.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the merged run.  [default: DIR, if it contains a folder `parts`]")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Merge although parts or trials are missing.")] = False,
    sign: _options.Sign = None,
    as_json: _options.AsJson = False,
) -> int:
    """Merge the parts of a run into one folder.

    Each part is verified first. The merged folder is verified and reported like that of an undivided run. Of several
    attempts at a part, only the last one counts. Run the command again to replace an earlier merge.
    """
    from redline._cli._run_plan import merge_and_report
    from redline.report import print_table
    from redline.run.parts.merge import MergeOptions
    from redline.run.signature import read_private_key

    key = None if sign is None else read_private_key(sign)
    if out is None:
        if len(where) > 1:
            raise UsageError("name the merged folder with --out")
        if not (where[0] / "parts").is_dir():
            raise UsageError(
                f"{where[0]} has no folder 'parts': name the folders of the parts, and the merged one with --out"
            )
        out = where[0]
    return merge_and_report(where, out, MergeOptions(key=key, partial=partial), print_table, as_json=as_json)
