"""Joined program: find a process by its pid in its node, and return its pid and start time as the observer sees it."""

from __future__ import annotations

from redline.cell.programs.prelude import stat_fields

TYPE_CHECKING = False  # the name that type checkers know
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.joined import cell_processes


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, int], list[int]]:
    """Return the pid and the start time of the process whose pid in its node is `inside`."""
    inside = request["inside"]
    if "proc" in request:  # the observer is in the node
        return identity(inside), []
    for _, pid in cell_processes({request["node"]: request["inits"][request["node"]]}):
        try:
            # Linux escapes the line feeds of a name in this text, and no other of its bytes.
            with open(f"/proc/{pid}/status", "rb") as file:
                found = next(line for line in file if line.startswith(b"NSpid:")).split()[-1]
            if int(found) == inside:
                return identity(pid), []
        except (OSError, StopIteration):
            continue
    raise ProcessLookupError("the process ended at once")


def identity(pid: int) -> dict[str, int]:
    """Return the pid and the start time of a process."""
    fields = stat_fields(pid)
    if not fields:
        raise ProcessLookupError("the process ended at once")
    return {"pid": pid, "start": int(fields[19])}
