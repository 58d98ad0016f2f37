"""Parse the name of a runtime on the command line."""

import typing

from redline._errors import UsageError
from redline._names import unknown

if typing.TYPE_CHECKING:
    from redline.cell.config import RuntimeName


def as_runtime(text: str) -> "RuntimeName":
    """Return the name of a runtime, or `auto`, as a command line gives it.

    Raises:
        UsageError: No runtime has this name.
    """
    from redline.cell.config import runtime_names

    if text in runtime_names():
        return text
    raise UsageError(unknown("runtime", text, runtime_names()))
