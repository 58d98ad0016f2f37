"""Parse the name of a runtime on the command line."""

import typing

from redline._errors import UsageError
from redline._names import unknown

if typing.TYPE_CHECKING:
    from redline.cell.config import RuntimeName


def as_runtime(text: str) -> "RuntimeName":
    """Return the runtime with this name.

    Raises:
        UsageError: No runtime has this name.
    """
    from redline.cell.config import RuntimeName

    for name in typing.get_args(RuntimeName):
        if name == text:
            return typing.cast("RuntimeName", name)
    raise UsageError(unknown("runtime", text, typing.get_args(RuntimeName)))
