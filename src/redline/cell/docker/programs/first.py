"""First process of a Docker node: gives up every privilege, reaps, and ends when the node's attendant says so."""

import ctypes
import os
import signal

PR_SET_DUMPABLE, PR_CAPBSET_READ, PR_CAPBSET_DROP = 4, 23, 24
LINUX_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def shed_capabilities() -> None:
    """Leaves no capability, neither to this process nor to inherit."""
    capability = 0
    while libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)(0, 0, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def reap() -> None:
    """Collects every ended process."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def main() -> None:
    """Serves until it is told to end, which ends the node."""
    waited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    shed_capabilities()
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    while signal.sigwait(waited) == signal.SIGCHLD:
        reap()


main()
