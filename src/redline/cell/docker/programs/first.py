"""First process of a Docker node: drops every capability, reaps, and ends when the node's attendant ends it."""

from __future__ import annotations

import os
import signal

from redline.cell.programs.prelude import PR_SET_DUMPABLE, libc, shed_capabilities


def reap() -> None:
    """Collect every ended process."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def main() -> None:
    """Serve until SIGTERM, which ends the node."""
    waited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    shed_capabilities()
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    while signal.sigwait(waited) == signal.SIGCHLD:
        reap()


if __name__ == "__main__":
    main()
