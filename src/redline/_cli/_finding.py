"""One finding of `redline doctor`."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "optional", "missing"]
"""There and working; not there, or not working, and not needed; what keeps a run from being possible."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """What it is."""
    state: State
    """Whether it is there and works, and whether that matters."""
    found: str
    """What was found."""
    fix: str = ""
    """What to do about it: where possible, the command to type."""
