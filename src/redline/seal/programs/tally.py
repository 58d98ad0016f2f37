"""Count the processes of a cell. Runs by `Cell.run_with_cell_privileges`, outside or inside."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # Provided by the caller.

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yield (node, pid) of every process of the cell."""

    def stat_fields(pid: int) -> list[bytes]:
        """Return the fields of `/proc/PID/stat` after the name: state, parent, …, start time (20th)."""


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Count all processes, the stopped ones, and those whose command line contains a given word.

    Inside a node, all visible processes belong to the cell, and the attendant's count too.
    """
    word = os.fsencode(request["word"])
    found, stopped, named = 0, 0, 0
    for _, pid in cell_processes(request["inits"]):
        fields = stat_fields(pid)
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # the process has ended
        if not fields or (fields[0] in (b"Z", b"X") and int(fields[17]) <= 1):
            continue  # it has ended; a zombie with more threads has not
        found += 1
        stopped += fields[0] in (b"T", b"t")
        named += word in words
    return {"processes": found, "stopped": stopped, "named": named}, []
