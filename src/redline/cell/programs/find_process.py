"""Joined program: find processes by their pids in their node, and return their pids and start times outside."""

from __future__ import annotations

from redline.cell.programs.prelude import stat_fields

TYPE_CHECKING = False  # the name that type checkers know
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.joined import cell_processes


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Return pid and start time of each process whose pid in its node is among `inside`, in their order."""
    if "proc" in request:  # the observer is in the node
        return {"found": [identity(pid) for pid in request["inside"]]}, []
    found = {}
    for _, pid in cell_processes({request["node"]: request["inits"][request["node"]]}):
        try:
            # Linux escapes the line feeds of a name in this text, and no other of its bytes.
            with open(f"/proc/{pid}/status", "rb") as file:
                found[int(next(line for line in file if line.startswith(b"NSpid:")).split()[-1])] = pid
        except (OSError, StopIteration):
            continue
    if not found.keys() >= set(request["inside"]):
        raise ProcessLookupError("the process ended at once")
    return {"found": [identity(found[inside]) for inside in request["inside"]]}, []


def identity(pid: int) -> tuple[int, int]:
    """Return the pid and the start time of a process."""
    fields = stat_fields(pid)
    if not fields:
        raise ProcessLookupError("the process ended at once")
    return pid, int(fields[19])
