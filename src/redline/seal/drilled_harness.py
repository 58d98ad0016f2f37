"""Harness processes of the lease drill: each opens a cell, reports where it is, and waits until it is killed.

Run as `python -m redline.seal.drilled_harness CONFIG LEASE_SECONDS COUNT`. The harnesses are forks of one process that
has loaded all modules, because loading them takes longer than everything else.
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
    """Open a cell with daemons in it and keep it until standard input ends."""
    async with open_cell(config, lease_seconds=lease_seconds) as cell:
        await cell.spawn(["sh", "-c", DAEMONS])
        inits = [node.init_pid for node in cell.nodes.values()]
        report = {"pid": os.getpid(), "inits": inits, "folder": str(cell.folder)}
        os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")  # one call, so that lines do not mix
        os.set_blocking(sys.stdin.fileno(), False)
        while True:
            await anyio.wait_readable(sys.stdin)
            if not os.read(sys.stdin.fileno(), 1 << 10):
                return


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even while this process is stopped."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(config: str, lease_seconds: str, count: str) -> None:
    """Fork the harnesses and wait for them."""
    end_with_parent()
    for _ in range(int(count)):
        if os.fork() == 0:
            end_with_parent()
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
