"""Signatures of the functions that a joined program gets from the process that runs it; never part of a program's text.

A joined program defines `main(request, fds)`, which returns a dictionary for JSON and a list of descriptors. Import
these names under `TYPE_CHECKING` only: what they do depends on whether the program runs outside the cell or inside.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name that type checkers know
if TYPE_CHECKING:
    from collections.abc import Iterator

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yield (node, pid) of every process of the cell."""

    def join_namespace(fd: int, kind: int) -> None:
        """Enter a namespace of the cell; refused inside the cell, where the program is in them already."""
