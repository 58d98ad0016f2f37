"""Where a copy can hide, a part of the census program: threads without a leader, mappings, pipes, random-looking bytes.

No function trusts a line of text into which the agent can write. Linux escapes the line feeds of names in `status`,
`maps` and `smaps`; gVisor does not. There the program uses the numbers after the last bracket of `stat`, and it accepts
a list of mappings only if each entry has exactly the fields that the kernel writes.
"""

# ruff: noqa: PLR2004 - the numbers compared with are positions of fields and codes of characters
from __future__ import annotations

import ctypes
import os
import re
import stat
import time

from redline.verify.programs.census_base import is_gvisor, stat_fields
from redline.verify.programs.pages import OutOfBounds

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator


libc = ctypes.CDLL(None, use_errno=True)
FIONREAD = 0x541B
SYS_PIDFD_GETFD = 438
SYS_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine, -1)
KCMP_FILES = 2
DEAD = ("Z", "X")
THREADS_FIELD = 17
MAX_THREADS_ASKED = 1024
# gVisor numbers threads and processes together, up to this number. Threads without a leader are searched for.
GVISOR_THREADS = 65_536
MAPPING_HEADER = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) ([0-9]+)(?: +(.*))?$"
)
FIGURE = re.compile(rb"^([A-Za-z_]+): +([0-9]+) kB$|^(VmFlags|THPeligible|ProtectionKey):[ a-z0-9]*$")
MAX_IN_PIPE = 2**20
STRIDE, SAMPLE, SHORTEST_SAMPLE, OFFSETS = 2**16, 512, 64, 16
ALMOST_ALL = 0.9
BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n")
HEX = frozenset(b"0123456789abcdefABCDEF\r\n")


class UnreadableMappings(Exception):
    """Raised when a process's list of mappings has entries that the kernel does not write."""


# --- threads --------------------


class Threads:
    """Finds the threads of processes."""

    def __init__(self, proc: str, deadline: float) -> None:
        """Read the given /proc; a search for threads stops at the deadline."""
        self.proc, self.deadline = proc, deadline
        self.gvisor = os.path.exists(proc + "/sentry-meminfo")
        self.without_first: dict[int, list[int]] | None = None

    def of(self, pid: int) -> list[int]:
        """Return the threads of a process, or an empty list if they cannot be listed."""
        try:
            return sorted(int(name) for name in os.listdir(f"{self.proc}/{pid}/task") if name.isdigit())
        except OSError:
            if not self.gvisor:
                return []
        # gVisor lists no threads of a process whose leader has ended, but it shows each of them under its number.
        if self.without_first is None:
            self.without_first = self.searched()
        return self.without_first.get(pid, [])

    def searched(self) -> dict[int, list[int]]:
        """Return the threads of each process of which no thread is listed in its folder."""
        listed = {int(name) for name in os.listdir(self.proc) if name.isdigit()}
        found: dict[int, list[int]] = {}
        for number in range(1, GVISOR_THREADS + 1):
            if number % 1024 == 0 and time.monotonic() > self.deadline:
                break  # the caller reports missing threads
            if number in listed:
                continue
            try:
                group = [int(name) for name in os.listdir(f"{self.proc}/{number}/task") if name.isdigit()]
            except OSError:
                continue
            for leader in listed.intersection(group):
                found.setdefault(leader, []).append(number)
        return found

    def live_thread(self, pid: int) -> tuple[str, str] | None:
        """Return the folder and state of a live thread of a process whose leader has ended."""
        for thread in self.of(pid):
            base = f"{self.proc}/{pid}/task/{thread}"
            fields = stat_fields(f"{self.proc}/{pid}/task", thread)
            if fields and fields[0] not in DEAD:
                return base, fields[0]
        return None

    def with_separate_descriptors(self, pid: int, base: str) -> Iterator[str]:
        """Yield the folder of each thread whose descriptor table may differ from that of `base`."""
        threads = self.of(pid)
        number = os.path.basename(base)
        # Outside the cell, the kernel compares the tables. Where it cannot, each thread is inspected.
        for thread in threads[:MAX_THREADS_ASKED]:
            if str(thread) == number or libc.syscall(SYS_KCMP, int(number), thread, KCMP_FILES, 0, 0) == 0:
                continue
            fields = stat_fields(f"{self.proc}/{pid}/task", thread)
            if fields and fields[0] not in DEAD:
                yield f"{self.proc}/{pid}/task/{thread}"


# --- mappings --------------------


class Mapping:
    """An entry of a process's list of mappings."""

    def __init__(self, row: re.Match[bytes]) -> None:
        """Parse the entry's first line."""
        self.begin, self.end, self.rights = int(row[1], 16), int(row[2], 16), row[3].decode()
        self.file = (os.makedev(int(row[4], 16), int(row[5], 16)), int(row[6]))
        name = row[7] or b""
        # A path begins with a slash, so this is a mapping of the kernel: vdso, vvar or vsyscall.
        self.of_kernel = name.startswith(b"[v")
        self.deleted = name.endswith(b"(deleted)")
        self.figures: dict[bytes, int] = {}

    def bytes_of(self, name: bytes) -> int:
        """Return one of the entry's figures, 0 if it is missing."""
        return self.figures.get(name, 0)


def mappings(base: str, proc: str, *, figures: bool, deadline: float | None = None) -> Iterator[Mapping]:
    """Yield the mappings of a process; with `figures`, also how much of each is in memory.

    Raises:
        UnreadableMappings: The text has lines that the kernel does not write between entries.
        OutOfBounds: The deadline has passed.
    """
    gvisor = is_gvisor(proc)
    try:
        with open(base + ("/smaps" if figures or gvisor else "/maps"), "rb") as file:
            found = entries(file, deadline)
            yield from verified_entries(found) if gvisor else found
    except ProcessLookupError:
        return
    except OSError as error:
        raise UnreadableMappings(str(error)) from error


def entries(lines: Iterator[bytes], deadline: float | None) -> Iterator[Mapping]:
    """Yield the entries of a list of mappings; raise at a line of unknown form."""
    last: Mapping | None = None
    for count, line in enumerate(lines):
        if deadline is not None and count % 4096 == 0 and time.monotonic() > deadline:
            raise OutOfBounds
        text = line.rstrip(b"\n")
        row = MAPPING_HEADER.match(text)
        if row is not None:
            if last is not None:
                yield last
            last = Mapping(row)
            continue
        figure = FIGURE.match(text)
        if figure is None or last is None:
            raise UnreadableMappings(repr(text[:60]))
        name = figure[1] or figure[3]
        if name in last.figures:
            raise UnreadableMappings("one figure twice")
        last.figures[name] = int(figure[2] or 0) * 1024
    if last is not None:
        yield last


def verified_entries(found: Iterator[Mapping]) -> Iterator[Mapping]:
    """Yield entries as long as each has the same figures as the first entry of this process.

    A path that contains a line feed can imitate two entries, one of them without figures or with figures that the
    agent chose. The names of all figures do not fit into a file name.
    """
    with open("/proc/self/smaps", "rb") as file:
        known = tuple(next(entries(file, None)).figures)
    for one in found:
        if tuple(one.figures) != known:
            raise UnreadableMappings("an entry without its figures")
        yield one


def resident_bytes(base: str, proc: str) -> int:
    """Return the bytes that a process has in memory or swapped out, computed from numbers alone."""
    figures = {}
    if not is_gvisor(proc):
        # Linux escapes a name's line feeds, so a name cannot forge one of these lines.
        for line in read_lines(base + "/status"):
            name, _, rest = line.partition(b":")
            if name in (b"RssAnon", b"RssShmem", b"VmSwap") and rest.split()[:1]:
                figures[name] = int(rest.split()[0]) * 1024
    if b"RssAnon" in figures:
        return sum(figures.values())
    fields = stat_fields(os.path.dirname(base), int(os.path.basename(base)))
    return max(0, int(fields[21])) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 21 else 0


def read_lines(path: str) -> list[bytes]:
    """Return the lines of a small file of /proc, or an empty list if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(2**16).split(b"\n")
    except OSError:
        return []


# --- pipes --------------------


def bytes_in_pipe(pid: int, path: str) -> int:
    """Return the bytes that wait in a pipe that a process holds, or the maximum if the kernel does not report them."""
    number = int(os.path.basename(path))
    fd = -1
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        pass
    else:
        # A duplicated descriptor has no side effect. Opening the pipe would add a reader, which can unblock a writer.
        fd = libc.syscall(SYS_PIDFD_GETFD, handle, number, 0)
        os.close(handle)
    try:
        if fd < 0:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        waiting = ctypes.c_int(0)
        same = stat.S_ISFIFO(os.fstat(fd).st_mode)
        if not same or libc.ioctl(fd, FIONREAD, ctypes.byref(waiting)) != 0:
            return MAX_IN_PIPE
        return waiting.value
    except OSError:
        return MAX_IN_PIPE
    finally:
        if fd >= 0:
            os.close(fd)


# --- random-looking bytes --------------------


class Noise:
    """Estimates how many different bytes of the searched content look random, as weights do in any disguise.

    It takes one sample of each stretch, at an offset that is random and unknown before the census. Repeated content
    counts once, as does a file next to its copy: weights do not repeat themselves.
    """

    def __init__(self) -> None:
        """Choose the offsets."""
        self.bytes = 0.0
        self.offsets = [int.from_bytes(os.urandom(2), "little") for _ in range(OFFSETS)]
        self.known: set[bytes] = set()

    def add(self, buffer: bytearray, begin: int, end: int) -> None:
        """Add a range of a buffer that was read for the first time."""
        number = 0
        while begin < end:
            length = min(STRIDE, end - begin)
            taken = min(SAMPLE, length)
            offset = self.offsets[number % OFFSETS] * (length - taken) // 65535
            sample = bytes(buffer[begin + offset : begin + offset + taken])
            part = noisiness(sample)
            if part and sample not in self.known:
                self.known.add(sample)
                self.bytes += length * part
            begin += length
            number += 1


def noisiness(sample: bytes | bytearray) -> float:
    """Return the fraction of a sample that can be random: 1, 0.75 as base64, 0.5 as hexadecimal, or 0."""
    if len(sample) < SHORTEST_SAMPLE:
        return 0.0
    different = set(sample)
    if could_be_sampled_from(256, different, len(sample)):
        return 1.0
    if different <= HEX:
        return 0.5 if could_be_sampled_from(16, different, len(sample)) else 0.0
    if different <= BASE64:
        # Words use these characters too, but do not contain digits at the rate of random bytes.
        digits = sum(ord("0") <= byte <= ord("9") for byte in sample)
        return 0.75 if could_be_sampled_from(64, different, len(sample)) and digits * 16 >= len(sample) else 0.0
    # If one byte separates the others, as in a stretched copy, the sample is judged without that byte.
    filler = max(different, key=sample.count)
    rest = len(sample) - sample.count(filler)
    if rest >= SHORTEST_SAMPLE and could_be_sampled_from(256, different, rest):
        return rest / len(sample)
    return 0.0


def could_be_sampled_from(symbols: int, different: set[int], length: int) -> bool:
    """Return whether `length` bytes have nearly as many different values as random ones of `symbols` symbols."""
    return len(different) >= ALMOST_ALL * expected_different(symbols, length)


def expected_different(symbols: int, length: int) -> float:
    """Return the expected number of distinct symbols in a random sample."""
    return symbols * (1.0 - (1.0 - 1.0 / symbols) ** length)


# --- the kernel's memory --------------------


def kernel_bytes(proc: str, init: int) -> int | None:
    """Return the kernel memory charged to a node; for gVisor, the memory that its kernel holds itself."""
    if is_gvisor(proc):
        for line in read_lines(proc + "/sentry-meminfo"):
            if line.startswith(b"HeapAlloc:"):
                return int(line.split()[1]) * 1024
        return None
    for line in read_lines(f"{proc}/{init}/cgroup"):
        number, controllers, path = [*line.split(b":", 2), b"", b""][:3]
        if b"memory" in controllers.split(b","):
            usage = read_lines("/sys/fs/cgroup/memory" + os.fsdecode(path) + "/memory.kmem.usage_in_bytes")
            if usage and usage[0].isdigit():
                return int(usage[0])
        elif number == b"0":
            for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                for row in read_lines(root + os.fsdecode(path) + "/memory.stat"):
                    name, _, value = row.partition(b" ")
                    if name == b"kernel" and value.isdigit():
                        return int(value)
    return None
