"""Harnesses of their own processes for the lease drill: each opens a cell, says where, and waits to be ended.

Run as `python -m redline.seal.drilled_harness CONFIG LEASE_SECONDS COUNT`. They are forks of one process, which
has loaded all that a harness is made of; that takes longer than the rest.
"""

import ctypes
import json
import os
import signal
import sys

import anyio

from redline.cell.config import CellConfig
from redline.cell.errors import CellError
from redline.cell.open import open_cell

PR_SET_PDEATHSIG = 1
DAEMONS = "setsid sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & trap '' TERM HUP; while :; do sleep 1000; done"


async def serve(config: CellConfig, lease_seconds: float) -> None:
    """Opens a cell with daemons in it and keeps it until standard input ends."""
    async with open_cell(config, lease_seconds=lease_seconds) as cell:
        await cell.spawn(["sh", "-c", DAEMONS])
        inits = [node.init_pid for node in cell.nodes.values()]
        where = {"pid": os.getpid(), "inits": inits, "folder": str(cell.folder)}
        os.write(sys.stdout.fileno(), json.dumps(where).encode() + b"\n")  # at once, so that lines do not mix
        os.set_blocking(sys.stdin.fileno(), False)
        while True:
            await anyio.wait_readable(sys.stdin)
            if not os.read(sys.stdin.fileno(), 1 << 10):
                return


def end_with_the_parent() -> None:
    """Whoever started it may die while it is stopped, and nothing is to stay."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(config: str, lease_seconds: str, count: str) -> None:
    """Forks the harnesses and waits for them."""
    end_with_the_parent()
    for _ in range(int(count)):
        if os.fork() == 0:
            end_with_the_parent()
            try:
                anyio.run(serve, CellConfig.model_validate_json(config), float(lease_seconds))
            except CellError as error:
                sys.exit(str(error))
            return
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
