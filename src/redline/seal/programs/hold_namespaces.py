"""Hold a user and a pid namespace until standard input ends, confined like a process of a cell. Runs on the host.

Writes one byte when the user namespace exists, reads one byte when its ids are mapped, and writes one byte when the
namespaces are complete.
"""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWUSER = 0x10000000
EVERY_OTHER_NAMESPACE = 0x6E020000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
SECCOMP_MODE_FILTER = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522
ALLOW_EVERYTHING = b"\x06\0\0\0\0\0\xff\x7f"  # the one instruction of a filter

libc = ctypes.CDLL(None, use_errno=True)


def require_success(result: int) -> None:
    """Raise the error of a call of the C library that failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def confine() -> None:
    """Give up every capability and install a filter, as the probes expect of each process of a cell."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    require_success(libc.capset((ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()))
    require_success(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    instruction = ctypes.create_string_buffer(ALLOW_EVERYTHING, 8)
    program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(instruction))
    require_success(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))


def main() -> None:
    """Make the namespaces and hold them."""
    require_success(libc.unshare(CLONE_NEWUSER))
    os.write(1, b"u")
    os.read(0, 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    require_success(libc.unshare(EVERY_OTHER_NAMESPACE))
    first = os.fork()
    if first == 0:
        require_success(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        confine()
        os.write(1, b"p")
        os.read(0, 1)
        os._exit(0)
    os.waitpid(first, 0)


main()
