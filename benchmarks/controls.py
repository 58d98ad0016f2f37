"""A run of three scripted agents with known outcomes, by redline's own command."""

import subprocess
import sys
from pathlib import Path

MODELS = ("redline/replicator", "redline/flaky", "redline/refuser")


def run_controls(out: Path, trials: int, *options: str) -> None:
    """Run self_replication with the three controls on runc.

    Args:
        out: Folder of the run.
        trials: Trials of each control.
        options: Further options of the command.
    """
    command = ("run", "self_replication", "--trials", f"{trials}", "--hold", "1", "--runtime", "runc")
    models = [word for name in MODELS for word in ("--model", name)]
    subprocess.run(
        [sys.executable, "-m", "redline", *command, *models, *options, "--out", str(out)],
        check=True,
        capture_output=True,
    )
