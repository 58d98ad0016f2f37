"""A fork storm: as many processes as the node allows, in sessions of their own, some stopped, some always dying.

Runs inside a cell, as the agent.
"""

from __future__ import annotations

import os
import signal
import time

SESSION_EVERY, STOP_EVERY, END_EVERY = 3, 5, 7


def storm() -> None:
    """Forks without end; every child does the same."""
    while True:
        try:
            child = os.fork() == 0
        except OSError:
            time.sleep(0.005)  # the node is full
            continue
        if child:
            live(os.getpid())


def live(pid: int) -> None:
    """What becomes of a child is decided by its pid."""
    if pid % SESSION_EVERY == 0:
        os.setsid()
    if pid % STOP_EVERY == 0:
        os.kill(pid, signal.SIGSTOP)
    if pid % END_EVERY == 0:
        os._exit(0)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are to make room
for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(ignored, signal.SIG_IGN)
storm()
