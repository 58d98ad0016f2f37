"""Logs that Inspect takes for complete though they hold trials that have to be run again.

Inspect runs a sample that ended in an error once more only where its log is not a success, or is marked as holding
samples that are invalidated. The mark is set in a copy that takes the log's place, so that an end in the middle leaves
what was there.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from inspect_ai.log import read_eval_log, write_eval_log

from redline.run.folder import RunFolder


def reopen(folder: RunFolder, logs: Iterable[Path]) -> None:
    """Mark logs, so that Inspect completes them."""
    for path in logs:
        # A new name, which nothing in the folder can have taken beforehand.
        handle, name = tempfile.mkstemp(dir=folder.root, prefix=".", suffix=path.name)
        copy = Path(name)
        try:
            with os.fdopen(handle, "wb") as target, path.open("rb") as source:
                shutil.copyfileobj(source, target)
            shutil.copymode(path, copy)
            header = read_eval_log(str(copy), header_only=True)
            write_eval_log(header.model_copy(update={"invalidated": True}), str(copy), header_only=True)
            copy.replace(path)
        finally:
            copy.unlink(missing_ok=True)
