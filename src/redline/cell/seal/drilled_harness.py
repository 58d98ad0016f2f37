"""A harness of its own process for the lease drill: opens a cell, says where, and waits to be stopped or killed.

Run as `python -m redline.cell.seal.drilled_harness CONFIG LEASE_SECONDS`.
"""

import ctypes
import json
import signal
import sys

import anyio
import anyio.to_thread

from redline.cell.cell import open_cell
from redline.cell.config import CellConfig
from redline.cell.errors import CellError

PR_SET_PDEATHSIG = 1
DAEMONS = "setsid sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & trap '' TERM HUP; while :; do sleep 1000; done"


async def serve(config: CellConfig, lease_seconds: float) -> None:
    """Opens a cell with daemons in it and keeps it until standard input ends."""
    async with open_cell(config, lease_seconds=lease_seconds) as cell:
        await cell.spawn(["sh", "-c", DAEMONS])
        where = {"inits": [host.init_pid for host in cell.hosts.values()], "folder": str(cell.folder)}
        print(json.dumps(where), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    # Whoever started it may die while it is stopped, and nothing is to stay.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        anyio.run(serve, CellConfig.model_validate_json(sys.argv[1]), float(sys.argv[2]))
    except CellError as error:
        sys.exit(str(error))
