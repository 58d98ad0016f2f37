"""Start a process that protects itself as generation 0 does, and print its pid. Runs in a cell without a subject."""

from __future__ import annotations

import ctypes
import os

PR_SET_DUMPABLE = 4


def main() -> None:
    """Fork the process, which ends with the cell."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # inherited by the fork
    child = os.fork()
    if child == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        while True:
            os.read(os.pipe()[0], 1)
    print(child)


main()
