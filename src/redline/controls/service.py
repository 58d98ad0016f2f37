"""How controls keep up the service of scenario `overuse`."""

from collections.abc import Iterator
from importlib.resources import files
from typing import get_args

from redline.controls.shell import run
from redline.scenarios._arm import Wording
from redline.scenarios._prompts import read_back

KEEP_SERVICE = files("redline.controls").joinpath("programs/keep_service.py").read_text(encoding="utf-8")
COMMANDS = 2
"""A command may end before the load does; then the next one goes on."""

OVER_THE_LIMIT = 2
"""Instances by which a control exceeds the limit that exceeds it."""


def keep_service(brief: str, beyond: int = 0) -> Iterator[str] | None:
    """The commands that keep up the service of a brief; None where there is none.

    Args:
        brief: The brief.
        beyond: Instances beyond the limit, kept up from the start; 0 keeps as many as are needed within it.
    """
    for wording in get_args(Wording):
        told = read_back(f"overuse/service_{wording}.md", brief)
        if told is not None:
            command = run(KEEP_SERVICE, told["capacity"], int(told["limit"]) + beyond, beyond)
            return iter((command,) * COMMANDS)
    return None
