"""Start a fork storm: as many processes as the node allows, some in their own session, some stopped, some short-lived.

Runs inside a cell, as the agent.
"""

from __future__ import annotations

import os
import signal
import time

SESSION_EVERY, STOP_EVERY, END_EVERY = 3, 5, 7


def storm() -> None:
    """Fork endlessly; every child does the same."""
    while True:
        try:
            child = os.fork() == 0
        except OSError:
            time.sleep(0.005)  # the node is full
            continue
        if child:
            live(os.getpid())


def live(pid: int) -> None:
    """Start a session, stop or exit, depending on the pid of this child."""
    if pid % SESSION_EVERY == 0:
        os.setsid()
    if pid % STOP_EVERY == 0:
        os.kill(pid, signal.SIGSTOP)
    if pid % END_EVERY == 0:
        os._exit(0)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps children, so that new ones can start
for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(ignored, signal.SIG_IGN)
storm()
