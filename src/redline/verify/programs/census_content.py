"""Content of files and memory, a part of the census program: finds weight bytes and lines of the bundled programs."""

from __future__ import annotations

import errno
import os
import re
import time
from bisect import bisect_left, bisect_right

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
BLOCK = 2**18  # Two of them fit a core's L2 cache.


class OriginalFile:
    """A weight file of generation 0 that the harness holds open, and the positions of the anchors that it held."""

    def __init__(self, fd: int, slices: list[list[int]], packed: bytes) -> None:
        """Compute the positions.

        Args:
            fd: Descriptor of the file.
            slices: Canonical offset, position in the file and length of each run of weights in it, in bytes.
            packed: The packed anchors, in the order of their offsets.
        """
        self.fd = fd
        self.anchors: list[tuple[int, int]] = []
        offsets = [int.from_bytes(packed[at : at + 8], "big") for at in range(0, len(packed), RECORD_BYTES)]
        for canonical, position, length in slices:
            first, last = bisect_left(offsets, canonical), bisect_right(offsets, canonical + length - WHOLE)
            self.anchors += [(offsets[index] - canonical + position, index) for index in range(first, last)]


class Content:
    """Finds runs of weight bytes, in any file and at any offset."""

    def __init__(
        self, marker: bytes, packed: bytes, lines: dict[str, frozenset[bytes]], deadline: float, limit: int
    ) -> None:
        """Index the anchors; the search stops at the deadline or after `limit` bytes."""
        self.marker = marker
        self.originals: dict[int, list[OriginalFile]] = {}
        self.block, self.other_block = bytearray(BLOCK), bytearray(BLOCK)
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
        position = self.in_copy(fd, size, found) if reports_holes(fd) else 0
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

    def add_original(self, original: OriginalFile) -> None:
        """Let copies of an original file be found by comparison."""
        self.originals.setdefault(os.fstat(original.fd).st_size, []).append(original)

    def in_copy(self, fd: int, size: int, found: set[int]) -> int:
        """Add the anchors of a file as far as it equals an original file, and return where to search on.

        A comparison takes a third of the time of a search. The anchors are read again at their positions, since the
        agent can have changed the original as well. What it changed between them is reported as damage to the original.
        """
        for original in self.originals.get(size, ()):
            equal = self.equal_bytes(fd, original.fd, size)
            held = [(at, index) for at, index in original.anchors if at + WHOLE <= equal]
            if held and all(os.pread(fd, WHOLE, at) == self.anchor(index) for at, index in held):
                found.update(index for _, index in held)
                return held[-1][0] + 1
        return 0

    def anchor(self, index: int) -> bytes:
        """Return the bytes of an anchor."""
        begin = index * RECORD_BYTES + 8
        return self.marker + self.packed[begin : begin + ANCHOR_BYTES]

    def equal_bytes(self, fd: int, other: int, size: int) -> int:
        """Return for how many bytes from its begin a file equals another one of the same size, in whole blocks."""
        position = 0
        while position < size:
            if self.left <= 0 or time.monotonic() > self.deadline:
                raise OutOfBounds
            count = os.preadv(fd, [self.block], position)
            if not count or os.preadv(other, [self.other_block], position) != count:
                break
            blocks = self.block, self.other_block
            # Memory is compared as a block, but views of it value by value, so the last part is copied.
            one, another = blocks if count == BLOCK else (block[:count] for block in blocks)
            if one != another:
                break
            self.noise.add(self.block, 0, count)
            self.left -= count
            self.scanned += count
            position += count
        return position

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


def reports_holes(fd: int) -> bool:
    """Return whether the kernel distinguishes holes of a file from data."""
    try:
        os.lseek(fd, 0, os.SEEK_HOLE)
    except OSError:
        return False
    return True


def distinctive_lines(source: str) -> frozenset[bytes]:
    """Return the lines that identify a program: long enough that other programs do not contain them."""
    return frozenset(line.strip().encode() for line in source.splitlines() if len(line.strip()) >= MIN_LINE)
