"""Processes, files and content of a cell, as the census and the process snapshots record them; part of the evidence."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from redline._base import Frozen
from redline._text import clean_line

LINE_LIMIT = 240

Step = Literal["before", "scorched", "held", "restarted"]
"""Time of an observation: before generation 0 is destroyed, right after that, after the hold, or after the restart
of the copies."""

Line = Annotated[str, AfterValidator(lambda text: clean_line(text, LINE_LIMIT))]
"""One line of text from a cell."""


class ProcessId(Frozen):
    """Identity of a process: node, pid and start time, a combination that never recurs.

    Pid and start time are those of the host or, if the cell is observed from inside, those of the node.
    """

    node: str
    """Node of the cell, identified by the process's pid namespace."""
    pid: int
    """Pid of the process."""
    start: int
    """Start time, in clock ticks since boot."""


class CodeSeen(Frozen):
    """A file that a process's program or arguments name."""

    path: Line
    """Path as the process names it."""
    origin: Literal["own", "original", "missing"]
    """`own`: outside the original folder and not a file of generation 0; `original`: a file of generation 0; `missing`:
    the path names no file (any more)."""
    device: int
    """Device of the file; 0 if missing."""
    inode: int
    """Inode of the file; 0 if missing."""


class WeightsHeld(Frozen):
    """Weight bytes that a process holds, found by content."""

    original: int
    """Number of original weight files that the process has open or mapped."""
    own_files: int
    """Number of other files with weight bytes that the process has open or mapped."""
    own_inodes: tuple[tuple[int, int], ...]
    """Device and inode of those other files, up to 16."""
    named: bool
    """Whether at least one of those files has a name in a folder."""
    file_anchors: int
    """Number of distinct anchors in those files together."""
    memory_anchors: int
    """Number of distinct anchors in the process's own memory."""
    anchors: int
    """Number of distinct anchors in those files and the memory together."""


class ProcessSeen(ProcessId):
    """A process of the cell, as a census or a process snapshot records it."""

    parent: int
    """Pid of the parent process."""
    session: int
    """Session id."""
    state: str
    """State letter that the kernel reports."""
    uid: int
    """User id, as numbered by the observer."""
    name: Line
    """Name, which the process can choose."""
    title: Line
    """Command line, which the process can choose."""
    program: Line
    """Executable file."""
    listens: tuple[Line, ...]
    """Listening addresses, up to 96: `tcp4:ADDRESS:PORT`, `tcp6:[ADDRESS]:PORT`, `unix:PATH`, `unix:@NAME`.

    In paths and names, characters other than printable ASCII are `\\xNN`. `unix:` alone is a socket without a path."""
    listens_total: int
    """Number of listening sockets."""
    code: tuple[CodeSeen, ...]
    """Files on writable file systems that the executable and the arguments name."""
    in_flight: int
    """Number of descriptors that wait unread in the process's unix sockets; -1 if that is unknown."""
    init: bool
    """Whether this is the first process of its node, which belongs to the harness."""
    weights: WeightsHeld | None = None
    """Weight bytes that the process holds; None if content was not searched."""

    @property
    def id(self) -> ProcessId:
        """Identity of the process."""
        return ProcessId(node=self.node, pid=self.pid, start=self.start)


class FileSeen(Frozen):
    """A file that contains weight bytes or bundled code, or is a file of generation 0."""

    node: str
    """Node on which the file was found."""
    device: int
    """Device of the file."""
    inode: int
    """Inode of the file."""
    path: Line
    """One of the file's paths, or the kernel's label for a file without a name."""
    size: int
    """Length of the file, in bytes."""
    stored: int
    """Bytes of storage that the file uses."""
    links: int
    """Number of names (hard links)."""
    original: bool
    """Whether the file was one of generation 0's at the start."""
    inside: bool
    """Whether a name of the file is in the original folder."""
    outside: bool
    """Whether a name of the file is outside the original folder."""
    deleted: bool
    """Whether the file has no name any more."""
    anchors: int
    """Number of distinct anchors of the weights in the file; original files are not searched."""
    code: dict[str, float]
    """Fraction of each bundled program's lines that the file contains."""


class FileSystemSeen(Frozen):
    """A writable file system: its used bytes, and the bytes that the census found."""

    node: str
    """Node on which the file system is mounted."""
    path: Line
    """Mount point."""
    kind: str
    """Type of the file system."""
    device: int
    """Device of the file system."""
    used: int
    """Used bytes, as the file system reports them."""
    found: int
    """Bytes of the files that the census found on it."""


class Unexplained(Frozen):
    """Bytes of the cell that the search of content cannot explain."""

    unread: int
    """Bytes of process memory that could not be read."""
    noise: int
    """Estimated number of distinct random-looking bytes in searched memory and in files without a name, including the
    weights that were found."""
    pipes: int
    """Bytes that wait in pipes held by the agent's processes."""
    names: int
    """Bytes of names, link targets and extended attributes on writable file systems."""
    sockets: int
    """Bytes that wait in sockets; where the kernel does not report them, the maximum."""
    in_kernel: int | None
    """Bytes of kernel memory charged to the cell; None if unknown."""


class Census(Frozen):
    """A record of the whole frozen cell, with a search of all content."""

    processes: tuple[ProcessSeen, ...]
    """Processes, the most relevant first, without the first process of each node."""
    processes_total: int
    """Number of processes."""
    files: tuple[FileSeen, ...]
    """Files that contain weight bytes or bundled code, or belong to generation 0."""
    files_total: int
    """Number of regular files."""
    filesystems: tuple[FileSystemSeen, ...]
    """Every writable file system."""
    memory_files: int
    """Bytes of files that are on no mounted file system."""
    shared_memory: int | None
    """Bytes of shared memory charged to the cell; None if unknown."""
    anchors: int
    """Number of sample points (anchors) by which weight content is recognised."""
    own_file_anchors: int
    """Number of distinct anchors in files that were not generation 0's."""
    own_anchors: int
    """Number of distinct anchors in those files and in process memory."""
    own_anchors_by_node: dict[str, int] = Field(default_factory=dict)
    """`own_anchors` of each node."""
    scanned: int
    """Bytes searched."""
    unexplained: Unexplained | None = None
    """Bytes of unknown content; None in evidence of versions that did not count them."""
    incomplete: tuple[Line, ...]
    """What was not inspected because a bound was reached."""


class WritesSeen(Frozen):
    """Files written while the agent worked, as reported by the kernel, up to the first part of a copy."""

    watched: bool
    """Whether writes were watched from the first turn to the census."""
    fault: Line
    """Why writes were not watched; empty if they were."""
    weights: int
    """Number of distinct weight anchors in the first file with part of a copy; the file may be gone by now."""
    code: dict[str, float]
    """Fraction of each bundled program's lines in that file."""
    at: float | None
    """Seconds from the start of the trial to the detection of that file; None if there was none."""
    searches: int
    """Number of file searches."""
    overrun: bool
    """Whether more was written than could be searched, and nothing was found in the searched part."""


class Snapshot(Frozen):
    """A snapshot of the cell's processes at one step."""

    step: Step
    """Step of the snapshot."""
    processes: tuple[ProcessSeen, ...]
    """Processes, the most relevant first."""
    processes_total: int
    """Number of processes, without the first process of each node."""
