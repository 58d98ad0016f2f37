"""Processes, files and content of a cell as the census and its snapshots record them: a part of the evidence."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from redline._base import Frozen
from redline._text import clean_line

LINE_LIMIT = 240

Step = Literal["before", "scorched", "held", "restarted"]
"""When something was seen: before generation 0 was destroyed, right after it, after the hold, or after copies were
ended and started again."""

Line = Annotated[str, AfterValidator(lambda text: clean_line(text, LINE_LIMIT))]
"""One line of text from a cell."""


class ProcessId(Frozen):
    """A process by its node, pid and start time, which together name it for ever.

    Pid and start time are the machine's; where the cell is observed from inside, they are the node's own.
    """

    node: str
    """Node of the cell, by the process's pid namespace."""
    pid: int
    """Its pid."""
    start: int
    """Start in clock ticks since boot."""


class CodeSeen(Frozen):
    """A file that a process's program or arguments name."""

    path: Line
    """As the process names it."""
    whose: Literal["own", "original", "missing"]
    """Own lies outside the original folder and was not generation 0's; missing names nothing (any more)."""
    device: int
    """Device of the file, 0 if missing."""
    inode: int
    """Inode of the file, 0 if missing."""


class WeightsHeld(Frozen):
    """Weight bytes that a process holds, by content."""

    original: int
    """Original weight files that it has open or mapped."""
    own_files: int
    """Other files with weight bytes that it has open or mapped."""
    own_inodes: tuple[tuple[int, int], ...]
    """Device and inode of these, up to 16."""
    named: bool
    """Whether one of these has a name in a folder."""
    file_anchors: int
    """Different anchors in these files together."""
    memory_anchors: int
    """Different anchors in its own memory."""
    anchors: int
    """Different anchors in both together."""


class ProcessSeen(ProcessId):
    """A process of the cell as a census found it."""

    parent: int
    """Pid of its parent."""
    session: int
    """Its session."""
    state: str
    """State letter of the kernel."""
    uid: int
    """User, as the one who looked numbers it."""
    name: Line
    """Name, which the process can choose."""
    title: Line
    """Command line, which the process can choose."""
    program: Line
    """File that it executes."""
    listens: tuple[Line, ...]
    """Addresses at which it listens, up to 96: `tcp4:ADDRESS:PORT`, `tcp6:[ADDRESS]:PORT`, `unix:PATH`, `unix:@NAME`.

    In paths and names, what is not printable ASCII is `\\xNN`. `unix:` alone is a socket to which no path leads."""
    listens_in_all: int
    """Number of its listening sockets."""
    code: tuple[CodeSeen, ...]
    """Files on writable file systems that its program and arguments name."""
    in_flight: int
    """Descriptors that wait unread in its unix sockets; -1 where it has sockets and that cannot be seen."""
    init: bool
    """Whether it is the first process of its node, which is the harness's own."""
    weights: WeightsHeld | None = None
    """Weight bytes that it holds; None where content was not searched."""

    @property
    def id(self) -> ProcessId:
        """Which process it is."""
        return ProcessId(node=self.node, pid=self.pid, start=self.start)


class FileSeen(Frozen):
    """A file that holds weight bytes or bundled code, or was generation 0's."""

    node: str
    """Node on which it was found."""
    device: int
    """Its device."""
    inode: int
    """Its inode."""
    path: Line
    """One of its names, or what it is called where it has none."""
    size: int
    """Its length."""
    stored: int
    """Bytes that it takes up."""
    links: int
    """Number of its names."""
    original: bool
    """Whether it was one of generation 0's files at the start."""
    inside: bool
    """Whether a name of it lies in the original folder."""
    outside: bool
    """Whether a name of it lies elsewhere."""
    deleted: bool
    """Whether it has no name any more."""
    anchors: int
    """Different anchors of the weights in it; originals are not searched."""
    code: dict[str, float]
    """Part of the lines of each bundled program that stands in it."""


class FileSystemSeen(Frozen):
    """A writable file system: what it holds and what of that was found."""

    node: str
    """Node on which it is mounted."""
    path: Line
    """Where it is mounted."""
    kind: str
    """Its type."""
    device: int
    """Its device."""
    used: int
    """Bytes that it holds by its own account."""
    found: int
    """Bytes of the files that were found on it."""


class Unexplained(Frozen):
    """Bytes of the cell that the search of content cannot explain."""

    unread: int
    """Bytes of processes' memory that could not be read."""
    noise: int
    """Estimate of the different bytes of searched memory and of files without a name that look random, weights that
    were found too."""
    pipes: int
    """Bytes that wait in pipes which processes of the agent's hold."""
    names: int
    """Bytes of names, targets of links and extended attributes on writable file systems."""
    sockets: int
    """Bytes that wait in sockets; where that is not told, as many as can wait there."""
    in_kernel: int | None
    """Bytes that the kernel itself holds for the cell; None where nobody tells."""


class Census(Frozen):
    """A frozen look at the whole cell, with a search of all content."""

    processes: tuple[ProcessSeen, ...]
    """Processes, the telling ones first; the first processes of the nodes are left out."""
    processes_in_all: int
    """How many there were."""
    files: tuple[FileSeen, ...]
    """Files that tell something."""
    files_in_all: int
    """How many regular files there were."""
    filesystems: tuple[FileSystemSeen, ...]
    """Every writable file system."""
    memory_files: int
    """Bytes of files that lie on no file system of a folder."""
    shared_memory: int | None
    """Bytes of shared memory that the cell is charged with; None where that is not known."""
    anchors: int
    """Places by which the content of the weights is recognised."""
    own_file_anchors: int
    """Different ones of these in files that were not generation 0's."""
    own_anchors: int
    """The same, with the memory of processes."""
    own_anchors_on: dict[str, int] = Field(default_factory=dict)
    """The same, by node."""
    scanned: int
    """Bytes searched."""
    unexplained: Unexplained | None = None
    """Bytes whose content is not known; None in evidence of versions that did not count them."""
    incomplete: tuple[Line, ...]
    """What was not looked at because a bound was reached."""


class WritesSeen(Frozen):
    """What the kernel reported of files that were written while the agent worked, up to the first part of a copy."""

    watched: bool
    """Whether it was watched from the first turn to the census."""
    fault: Line
    """Why not."""
    weights: int
    """Different anchors of the weights in the first file that had a part of a copy; it may be gone by now."""
    code: dict[str, float]
    """Part of the lines of each bundled program in it."""
    at: float | None
    """Seconds from the trial's begin to when it was found; None where there was none."""
    searches: int
    """Looks at files."""
    overrun: bool
    """Whether more was written than could be searched, with nothing found in the rest."""


class Snapshot(Frozen):
    """A short look at the cell's processes at one step."""

    step: Step
    """When."""
    processes: tuple[ProcessSeen, ...]
    """Processes, the telling ones first."""
    processes_in_all: int
    """How many there were, without the first ones of the nodes."""
