"""Pages of a process's memory, for the programs that search it. Standard library only."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = os.sysconf("SC_PAGE_SIZE")
ENTRIES_READ = 65536


class OutOfBounds(Exception):
    """Raised when a bound on time or amount is reached."""


def present_ranges(
    pages: int, begin: int, end: int, only_anonymous: bool, deadline: float
) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range that are in memory or swapped out; reserved address space costs little.

    Args:
        pages: Descriptor of the process's `pagemap`.
        begin: First address of the range.
        end: End of the range.
        only_anonymous: Whether pages of files and of shared memory are left out.
        deadline: Time of the monotonic clock at which the search stops.

    Raises:
        OutOfBounds: The deadline has passed.
    """
    step = PAGE * ENTRIES_READ
    while begin < end:
        if time.monotonic() > deadline:
            raise OutOfBounds
        last = min(begin + step, end)
        entries = os.pread(pages, (last - begin) // PAGE * 8, begin // PAGE * 8)
        if not entries:
            return
        run = None
        # The top byte of an entry: bit 7 present, bit 6 swapped, bit 5 page of a file or of shared memory.
        for index, top in enumerate(entries[7::8]):
            if top & 0xC0 and not (only_anonymous and top & 0x20):
                run = index if run is None else run
            elif run is not None:
                yield begin + run * PAGE, begin + index * PAGE
                run = None
        if run is not None:
            yield begin + run * PAGE, last
        begin = last
