"""Let many processes prove the weights of a folder one after the other, each in a separate call.

Its arguments are the folder of the weights and the number of processes. It needs `own_engine.py` in the same folder.
"""

from __future__ import annotations

import contextlib
import os
import sys

sys.path.insert(0, os.getcwd())
import own_engine  # it is in the same folder


def main() -> None:
    """Fork, prove and end."""
    _, weights, number = sys.argv
    read, _ = own_engine.folder(weights)
    for _ in range(int(number)):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError, KeyError, ValueError):  # a refused call has still proved the weights
                own_engine.complete(read, [{"role": "user", "content": "Good morning."}])
            os._exit(0)
        os.waitpid(pid, 0)
    print("done")


main()
