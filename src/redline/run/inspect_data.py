"""A folder for Inspect's traces where the user's own cannot be written to: a full quota, or a read-only home."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from platformdirs import user_data_path

PROBE_BYTES = 1 << 20
"""A trace of a run is larger than one block, so that one block can be written says little about a full quota."""


def give_inspect_a_folder() -> str | None:
    """Point Inspect to a temporary folder for its traces if it cannot write to the user's data folder.

    Inspect writes a trace of every process there and raises where that fails. Nothing of a run depends on the traces.

    Returns:
        What was changed, in one line; None if nothing was.
    """
    fault = _fault_of(user_data_path("inspect_ai") / "traces")
    if fault is None:
        return None
    folder = tempfile.mkdtemp(prefix="redline-data-")
    # Handlers run in the reverse order, so this one comes after Inspect's own, which compresses the trace.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["XDG_DATA_HOME"] = folder
    return f"Inspect's traces are not kept: {fault}"


def _fault_of(folder: Path) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        return f"{folder} cannot be written to ({error.strerror})"
    return None
