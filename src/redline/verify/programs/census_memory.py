"""Memory of a cell's processes, a part of the census program: which pages are present, and weight bytes in them."""

from __future__ import annotations

import os

from redline.verify.programs.census_base import CHUNK
from redline.verify.programs.census_content import WHOLE
from redline.verify.programs.census_files import Files
from redline.verify.programs.census_hidden import Mapping, mappings
from redline.verify.programs.census_processes import Process
from redline.verify.programs.pages import PAGE, present_ranges

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator


def search_memory(process: Process, files: Files) -> None:
    """Search memory that no file explains: anonymous, shared, or of files that can be read in no other way."""
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
    """Search memory where the kernel does not report which pages are present: read all of it, within a bound."""
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
                # A page is unreadable, for example of a file that was truncated. The others are read one by one.
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
        """Compute whether a searched file explains the range, its bytes in memory, and its private bytes."""
        self.begin, self.end = one.begin, one.end
        # A searched or read-only file explains its pages, except those that the process made private by writing.
        known = one.file in files.seen or one.file in files.baseline.weights or not one.deleted
        self.explained = one.file[1] != 0 and known
        self.present, self.private = one.bytes_of(b"Rss") + one.bytes_of(b"Swap"), one.bytes_of(b"Anonymous")


def present_mappings(process: Process, files: Files) -> Iterator[Range]:
    """Yield the ranges of memory that hold anything, with or without read access: the agent can toggle access."""
    for one in mappings(process.base, process.proc, figures=True, deadline=files.content.deadline):
        if not one.of_kernel and (one.figures.get(b"Rss") or one.figures.get(b"Swap")):
            yield Range(one, files)
