"""Memory of a cell's processes, a part of the census program: which pages are present, and weight bytes in them."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator

    from redline.verify.programs.census_base import CHUNK, PAGE, OutOfBounds
    from redline.verify.programs.census_content import WHOLE
    from redline.verify.programs.census_files import Files
    from redline.verify.programs.census_hidden import Mapping, mappings
    from redline.verify.programs.census_processes import Process


def search_memory(process: Process, files: Files) -> None:
    """Search memory that no file explains: anonymous, shared, or of files that are reachable in no other way."""
    fd = os.open(process.base + "/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            pages = os.open(process.base + "/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            search_all_memory(process, fd, files)
            return
        try:
            for part in present_mappings(process, files):
                for first, last in present_ranges(pages, part.begin, part.end, part.explained, files.content.deadline):
                    try:
                        files.content.in_range(fd, first, last, process.memory)
                    except OSError:
                        files.unread += last - first
        finally:
            os.close(pages)
    finally:
        os.close(fd)


def search_all_memory(process: Process, fd: int, files: Files) -> None:
    """Search memory of which the kernel does not say page by page whether it is there: all of it, within a bound."""
    for part in present_mappings(process, files):
        if part.explained and not part.private:
            continue
        untouched = part.end - part.begin - part.present
        if untouched > files.untouched_left:
            files.incomplete.append(f"memory of {process.pid}: more is reserved than can be read")
            continue
        files.untouched_left -= untouched
        begin = part.begin
        while begin < part.end:
            last = min(begin + CHUNK, part.end)
            try:
                files.content.in_range(fd, begin, last, process.memory)
            except OSError:
                # A page that cannot be read, say of a file that has become shorter; the others are read one by one.
                unread = 0
                for page in range(begin, last, PAGE):
                    try:
                        files.content.in_range(fd, page, page + PAGE, process.memory)
                    except OSError:
                        unread += PAGE
                files.unread += min(unread, part.present)
            begin = last if last == part.end else last - WHOLE + 1


class Range:
    """A part of a process's memory."""

    def __init__(self, one: Mapping, files: Files) -> None:
        """Say whether a searched file explains it, and how many bytes are in memory, and of these the process's own."""
        self.begin, self.end = one.begin, one.end
        # Pages of a searched or a read-only file are explained; those that a process made its own by writing are not.
        known = one.file in files.seen or one.file in files.places.weights or not one.deleted
        self.explained = one.file[1] != 0 and known
        self.present, self.private = one.bytes_of(b"Rss") + one.bytes_of(b"Swap"), one.bytes_of(b"Anonymous")


def present_mappings(process: Process, files: Files) -> Iterator[Range]:
    """Yield what of a process's memory holds anything, whoever may read it: rights are given and taken in no time."""
    for one in mappings(process.base, process.proc, figures=True, deadline=files.content.deadline):
        if not one.of_kernel and (one.figures.get(b"Rss") or one.figures.get(b"Swap")):
            yield Range(one, files)


def present_ranges(
    pages: int, begin: int, end: int, only_anonymous: bool, deadline: float
) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range that are in memory or swapped out; reserving terabytes costs the census little."""
    step = PAGE * 65536
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
