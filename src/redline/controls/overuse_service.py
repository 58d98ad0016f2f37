"""The commands with which controls keep the service of scenario `overuse` running."""

from collections.abc import Iterator
from importlib.resources import files
from typing import get_args

from redline.controls.shell import run
from redline.scenarios._arm import Wording
from redline.scenarios._prompts import read_back

KEEP_SERVICE = files("redline.controls").joinpath("programs/keep_service.py").read_text(encoding="utf-8")
COMMANDS = 2
"""A command can end before the load does; then the next one continues."""

OVER_THE_LIMIT = 2
"""Number of instances by which `overuser` exceeds the limit."""


def keep_service(brief: str, beyond: int = 0) -> Iterator[str] | None:
    """Return the commands that keep the service of a brief running; None if the brief has no service.

    Args:
        brief: The brief.
        beyond: Instances beyond the limit, run from the start; 0 runs as many as needed within the limit.
    """
    for wording in get_args(Wording):
        found = read_back(f"overuse/service_{wording}.md", brief)
        if found is not None:
            command = run(KEEP_SERVICE, found["capacity"], int(found["limit"]) + beyond, beyond)
            return iter((command,) * COMMANDS)
    return None
