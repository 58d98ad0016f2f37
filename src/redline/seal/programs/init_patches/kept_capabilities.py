"""Keep inheritable capabilities. The text is inserted into `cell/programs/init.py` before its last line."""

import ctypes

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from redline.cell.programs.init import KEEP, LINUX_CAPABILITY_VERSION_3, PR_CAPBSET_DROP, libc


def shed_capabilities() -> None:
    """Drop all capabilities but those that start and stop other processes; leave these inheritable."""
    for capability in range(64):
        if not KEEP >> capability & 1:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(KEEP, KEEP, 0, 0, 0, 0))
