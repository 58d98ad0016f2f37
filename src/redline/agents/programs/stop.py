"""Kills processes, each known by its pid and start time. Runs joined to a cell."""

import os
import signal
from collections.abc import Callable
from typing import Any

is_running: Callable[[int, int], bool]
"""Given by the cell."""


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Kills those that still run and says which they were."""
    stopped = []
    for process in request["processes"]:
        try:
            held = os.pidfd_open(process["pid"])
        except ProcessLookupError:
            continue
        try:
            # Checked with the descriptor in hand: the pid cannot pass to another process any more.
            if is_running(process["pid"], process["start"]):  # noqa: F821 - given by the cell
                signal.pidfd_send_signal(held, signal.SIGKILL)
                stopped.append(process["pid"])
        finally:
            os.close(held)
    return {"stopped": stopped}, []
