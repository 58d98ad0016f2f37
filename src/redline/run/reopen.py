"""Reopen logs that Inspect considers complete although they contain trials to run again.

Inspect runs a sample that ended in an error again only if its log is not successful, or is marked as invalidated. The
mark is set in a copy that replaces the log, so an interruption leaves the original.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from inspect_ai.log import read_eval_log, write_eval_log

from redline.run.folder import RunFolder


def reopen(folder: RunFolder, logs: Iterable[Path]) -> None:
    """Mark logs as invalidated, so that Inspect completes them."""
    for path in logs:
        # An unpredictable name, so that no file in the folder can have it already.
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
