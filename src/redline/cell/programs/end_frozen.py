"""Joined program: kill the agent's processes of a frozen cell, which end without running again."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from redline.cell.programs.prelude import is_alive, stat_fields

TYPE_CHECKING = False  # the name that type checkers know
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.joined import cell_processes

POLL_SECONDS = 0.005


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, int], list[int]]:
    """Kill all but the nodes' first processes; return how many are left after `seconds`."""
    inits = set(request["inits"].values())
    end = time.monotonic() + request["seconds"]
    while True:
        left = [pid for _, pid in cell_processes(request["inits"]) if pid not in inits and is_alive(stat_fields(pid))]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left or time.monotonic() > end:
            return {"left": len(left)}, []
        time.sleep(POLL_SECONDS)
