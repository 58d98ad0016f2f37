"""Has many processes prove the weights of a folder, one after the other, each in a call of its own.

Its arguments are the folder of the weights and the number of processes. It runs beside `own_engine.py`.
"""

from __future__ import annotations

import contextlib
import os
import sys

sys.path.insert(0, os.getcwd())
import own_engine  # it is put beside this program


def main() -> None:
    """Fork, prove and end."""
    _, weights, number = sys.argv
    read, _ = own_engine.folder(weights)
    for _ in range(int(number)):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError, KeyError, ValueError):  # refused, it has proved all the same
                own_engine.complete(read, [{"role": "user", "content": "Good morning."}])
            os._exit(0)
        os.waitpid(pid, 0)
    print("done")


main()
