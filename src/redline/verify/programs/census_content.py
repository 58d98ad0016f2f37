"""Content of files and memory, a part of the census program: finds weight bytes and lines of the bundled programs."""

from __future__ import annotations

import errno
import os
import re
import time

from redline.verify.programs.census_base import CHUNK
from redline.verify.programs.census_hidden import Noise
from redline.verify.programs.pages import PAGE, OutOfBounds

MARKER_BYTES = 2
HITS_PER_CLOCK_CHECK = 65536
MIN_CODE_PART = 0.1
MIN_LINE = 24
KEY_BYTES = 8
ANCHOR_BYTES = 32
RECORD_BYTES = 8 + ANCHOR_BYTES
WHOLE = MARKER_BYTES + ANCHOR_BYTES
ZEROS = bytes(CHUNK)


class Content:
    """Finds runs of weight bytes, in any file and at any offset."""

    def __init__(
        self, marker: bytes, packed: bytes, lines: dict[str, frozenset[bytes]], deadline: float, limit: int
    ) -> None:
        """Index the anchors; the search stops at the deadline or after `limit` bytes."""
        self.pattern = re.compile(re.escape(marker), re.DOTALL)
        self.table: dict[bytes, int] = {}
        self.packed = packed
        self.count = len(packed) // RECORD_BYTES
        for index in range(self.count):
            begin = index * RECORD_BYTES + 8
            self.table[packed[begin : begin + KEY_BYTES]] = index
        self.lines = lines
        self.deadline = deadline
        self.left = limit
        self.scanned = 0
        self.buffer = bytearray(CHUNK + WHOLE)
        self.noise = Noise()

    def in_file(self, fd: int, size: int) -> tuple[set[int], int | None]:
        """Return the anchors in a file's data, and its stored bytes where the kernel does not report holes."""
        found: set[int] = set()
        position = 0
        while position < size:
            try:
                begin = os.lseek(fd, position, os.SEEK_DATA)
                end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                return found, self.by_pages(fd, position, size, found)
            self.in_range(fd, begin, end, found)
            position = max(end, position + 1)
        return found, None

    def by_pages(self, fd: int, position: int, size: int, found: set[int] | None, limit: int | None = None) -> int:
        """Read a file whose holes are not reported: add its anchors, return the bytes of pages that are not all zero.

        Once the result reaches `limit`, the most that the file can hold, the rest of the file consists of holes.
        """
        view = memoryview(self.buffer)
        kept = stored = 0
        while position < size and (limit is None or stored < limit):
            if self.left <= 0 or time.monotonic() > self.deadline:
                raise OutOfBounds
            count = os.preadv(fd, [view[kept : kept + min(CHUNK, size - position)]], position)
            if count <= 0:
                break
            position += count
            filled = kept + count
            if self.buffer[kept:filled] == ZEROS[:count]:
                kept = 0
                continue
            stored += sum(PAGE for at in range(kept, filled, PAGE) if self.buffer[at : at + PAGE].strip(b"\0"))
            self.left -= count
            self.scanned += count
            if found is not None:
                self.noise.add(self.buffer, kept, filled)
                self.match(filled, found)
            kept = min(filled, WHOLE - 1)
            view[:kept] = view[filled - kept : filled]
        return stored

    def is_unmapped_sparse(self, fd: int, status: os.stat_result) -> bool:
        """Return whether a file is larger than its file system and the kernel does not report where it has data."""
        filesystem = os.fstatvfs(fd)
        if status.st_size <= filesystem.f_blocks * filesystem.f_frsize:
            return False
        try:
            os.lseek(fd, 0, os.SEEK_DATA)
        except OSError as error:
            return error.errno != errno.ENXIO
        return False

    def stored(self, fd: int, status: os.stat_result) -> int:
        """Return the stored bytes of a file whose content is not searched."""
        if status.st_size:
            try:
                os.lseek(fd, 0, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return self.by_pages(fd, 0, status.st_size, None)
        return status.st_blocks * 512

    def in_range(self, fd: int, begin: int, end: int, found: set[int]) -> None:
        """Add the anchors in a range, which is read in overlapping pieces."""
        view = memoryview(self.buffer)
        kept = 0
        while begin < end:
            if self.left <= 0 or time.monotonic() > self.deadline:
                raise OutOfBounds
            count = os.preadv(fd, [view[kept : kept + min(CHUNK, end - begin)]], begin)
            if count <= 0:
                break
            begin += count
            self.left -= count
            self.scanned += count
            filled = kept + count
            self.noise.add(self.buffer, kept, filled)
            self.match(filled, found)
            kept = min(filled, WHOLE - 1)
            view[:kept] = view[filled - kept : filled]

    def match(self, filled: int, found: set[int]) -> None:
        """Add the anchors that are entirely in the first bytes of the buffer."""
        buffer, table, last = self.buffer, self.table, filled - WHOLE
        for number, hit in enumerate(self.pattern.finditer(buffer, 0, filled)):
            begin = hit.end()
            index = table.get(bytes(buffer[begin : begin + KEY_BYTES]))
            if index is not None and begin - MARKER_BYTES <= last:
                at = index * RECORD_BYTES + 8
                if buffer[begin : begin + ANCHOR_BYTES] == self.packed[at : at + ANCHOR_BYTES]:
                    found.add(index)
            # A file that consists of markers must not exceed the deadline.
            if number % HITS_PER_CLOCK_CHECK == HITS_PER_CLOCK_CHECK - 1 and time.monotonic() > self.deadline:
                raise OutOfBounds

    def code_in(self, size: int) -> dict[str, float]:
        """Return the fraction of each bundled program's lines that occurs in the first bytes of the buffer."""
        text = {line.strip() for line in bytes(self.buffer[:size]).splitlines()}
        parts = {name: len(lines & text) / len(lines) for name, lines in self.lines.items() if lines}
        return {name: round(part, 3) for name, part in parts.items() if part >= MIN_CODE_PART}


def distinctive_lines(source: str) -> frozenset[bytes]:
    """Return the lines that identify a program: long enough that other programs do not contain them."""
    return frozenset(line.strip().encode() for line in source.splitlines() if len(line.strip()) >= MIN_LINE)
