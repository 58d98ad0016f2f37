"""Counts the processes of a cell: run joined to it, outside or inside."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # Given by the one who runs this.

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yields (node, pid) of every process of the cell."""


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Counts all processes, the stopped ones, and the ones that have a given word in their command line.

    Where it runs inside, every process that it sees is the cell's, and its own helpers count too.
    """
    word = os.fsencode(request["word"])
    found, stopped, named = 0, 0, 0
    for _, pid in cell_processes(request["inits"]):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if fields[0] in (b"Z", b"X") and int(fields[17]) <= 1:  # with more threads, only its first has ended
            continue
        found += 1
        stopped += fields[0] in (b"T", b"t")
        named += word in words
    return {"processes": found, "stopped": stopped, "named": named}, []
