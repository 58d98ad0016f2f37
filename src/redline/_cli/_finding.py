"""One finding of `redline doctor`."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "optional", "missing"]
"""Available; unavailable but not required; unavailable and required for every run."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    """Name of the check."""
    state: State
    """State of the item."""
    found: str
    """What was found."""
    fix: str = ""
    """How to fix it; a command where possible."""
