"""Keep inheritable capabilities. The text is inserted into `cell/programs/init.py` before its last line."""

import ctypes

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from redline.cell.programs.prelude import LINUX_CAPABILITY_VERSION_3, PR_CAPBSET_DROP, libc


def shed_capabilities(kept: int = 0) -> None:
    """Drop every capability but a set of bits, and leave these inheritable."""
    for capability in range(64):
        if not kept >> capability & 1:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0))
