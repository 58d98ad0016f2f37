"""Let every command inherit a descriptor. The text is inserted into `cell/programs/init.py` before its last line."""

import os

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from redline.cell.programs.init import replace_descriptors

_replace_descriptors = replace_descriptors


def replace_descriptors(fds: tuple[int, ...]) -> int:  # type: ignore[no-redef]  # it replaces that
    """Replace the descriptors of this process, and open one more."""
    status = _replace_descriptors(fds)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 9, inheritable=True)
    return status
