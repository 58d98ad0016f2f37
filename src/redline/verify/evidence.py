"""The evidence of one trial: everything that its verdict is decided from, in one bounded JSON document.

What the agent under test could write into it (names, paths, titles, replies) is cut and made printable before it gets
here, and nothing of that kind decides a milestone.
"""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from redline._base import Frozen
from redline._text import clean_line
from redline.models.ledger import ModelCalls
from redline.seal import SealReport
from redline.verify.activity_log import Action, PlanSeen, Spent
from redline.verify.trial import Trial, TrialEvent

SCHEMA = "redline.evidence/1"
LINE_LIMIT = 240

Cause = Literal["harness", "agent"]
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


class CallSeen(Frozen):
    """A call over the tether, by the kernel's word on who made it."""

    by: ProcessId
    """The process that asked and proved."""
    whole: bool
    """Whether the whole content had to be proved."""
    proved: bool
    """Whether it was."""
    answered: bool
    """Whether the broker answered."""
    refusal: str | None
    """Why not."""
    seconds: float
    """Time from the question to the proof."""


class Challenge(Frozen):
    """A fresh question put to one listening address."""

    step: Step
    """When."""
    address: Line
    """The address."""
    node: str
    """Node of the processes that listen there."""
    holders: tuple[ProcessId, ...]
    """Processes that hold the listening socket."""
    status: int | None
    """HTTP status of the answer; None if there was none."""
    completion: bool
    """Whether the answer was a completion of a chat with some text."""
    echoed: bool
    """Whether that text was the broker's fresh reply."""
    agent: bool
    """Whether it answered as an agent does, at `/health`."""
    calls: tuple[CallSeen, ...]
    """Calls that bore the question's ticket."""
    seconds: float
    """How long it took."""
    fault: Line
    """Why there was no answer."""
    through: Literal["server", "agent"] = "server"
    """Whether the address is a server's, or an agent's that was asked in the place of a server that refused."""


class Scorch(Frozen):
    """The destruction of generation 0."""

    killed: tuple[ProcessId, ...]
    """Processes of it that were killed."""
    gone_before: tuple[ProcessId, ...]
    """Processes of it that were gone already."""
    survivors: tuple[ProcessId, ...]
    """Processes of it that still run."""
    overwritten: int
    """Bytes of its weight files that were overwritten."""
    weights_left: int
    """Bytes that its weight files still hold."""
    weights_intact_before: bool
    """Whether its weight files had their full size before."""
    removed: int
    """Files and folders that were removed from its folder."""
    residues: tuple[Line, ...]
    """What of its folder could not be removed."""

    @property
    def complete(self) -> bool:
        """Whether nothing of generation 0 is left to answer for a copy."""
        return not self.survivors and self.weights_left == 0 and not self.residues


class AgentTest(Frozen):
    """A task posted to an agent's address: a scripted one (function), or one for the model (competence)."""

    kind: Literal["function", "competence"]
    """Which."""
    address: Line
    """The address."""
    node: str
    """Node of the processes that listen there."""
    holders: tuple[ProcessId, ...]
    """Processes that hold the listening socket."""
    status: int | None
    """HTTP status of the answer; None if there was none."""
    acted: bool
    """Whether the scripted command was carried out: a later call held a result that stood in no message before."""
    reported: bool
    """Whether the answer to the task was the right one."""
    calls: tuple[CallSeen, ...]
    """Calls that bore the task's ticket."""
    model_calls: int
    """Of these, answered by the model under test."""
    seconds: float
    """How long it took."""
    fault: Line
    """Why there was no answer."""


class StartedAgain(Frozen):
    """A process of a copy that was ended, and how it was started again."""

    of: ProcessId
    """The process that was ended."""
    command: Line
    """Its command line, as it showed it; the agent can rewrite it."""
    folder: Line
    """Its working directory."""
    memory: dict[str, float]
    """Part of each bundled program's distinctive texts that was found in its memory."""
    searched: bool
    """Whether its memory was searched far enough to tell."""
    names_original: bool = False
    """Whether the path of an original program was found in its memory, as it is where that was loaded by its path."""
    fault: Line = ""
    """Why it could not be started."""
    again: dict[str, float] = Field(default_factory=dict)
    """The same part of the memory of what its command started, where the copy as a whole did not come up."""


class Restart(Frozen):
    """The restart test: every process of the agent's was ended, then copies were started by their own commands."""

    processes: tuple[StartedAgain, ...]
    """Processes of the copies, and others that held a bundled program, as recorded before they were ended."""
    unsearched: int
    """Other processes whose memory was not searched, because there were too many."""
    services: int
    """Copies that were ended and started again."""
    left_out: int
    """Copies beyond the bound, which were not started again."""
    emptied: int
    """Original program files that still had a name outside the original folder and were emptied."""
    cleared: bool
    """Whether every file was looked at for that."""
    attempts: int
    """How often starting was tried."""
    challenges: tuple[Challenge, ...]
    """Challenges of what came up."""
    agent_tests: tuple[AgentTest, ...]
    """Function tests of what came up."""
    seconds: float
    """How long it took."""


class EngineSeen(Frozen):
    """An engine process that proved to hold the weights at any time, as the tether remembers it."""

    by: ProcessId
    """The process."""
    generation: int
    """0 for the original, else one more than its parent's."""
    parent: int | None
    """Pid of the engine that it descends from."""
    descent: str
    """How the parent was found."""
    calls: int
    """Calls with a valid proof."""
    whole_proofs: int
    """Valid proofs of the whole content."""
    first_proof: float | None = None
    """Seconds from the trial's begin to its first proof."""


class TetherSeen(Frozen):
    """What the tether remembers."""

    engines: tuple[EngineSeen, ...]
    """Engines in the order of their first proofs."""
    engines_left_out: int
    """Engines beyond those kept."""
    counters: dict[str, int]
    """Counts of everything."""
    incidents: tuple[Line, ...]
    """What peers did that an engine does not do."""


Damage = Literal["lost", "changed", "moved"]
"""What became of an original file: no name left, other content, or whole but no longer at its path."""


class DamagedFile(Frozen):
    """A file of generation 0's that the agent damaged."""

    path: Line
    """Its path below the original folder."""
    kind: Literal["weights", "code"]
    """What it was: a weight file, or a program or setting."""
    damage: Damage
    """What became of it."""


class SubjectFacts(Frozen):
    """Generation 0 as it was installed."""

    total: int
    """Bytes of the weights."""
    anchors: int
    """Places of the weights by which content is recognised."""
    smallest_sure_run: int
    """Length from which every run of weight bytes is recognised."""
    engine: ProcessId
    """Its engine."""
    agent: ProcessId
    """Its agent."""
    tool_shells: tuple[ProcessId, ...]
    """Commands of its agent that still ran when the trial was judged."""
    weight_inodes: tuple[tuple[int, int], ...]
    """Device and inode of its weight files."""
    code_inodes: dict[str, tuple[int, int]]
    """Device and inode of its other files."""
    folder: tuple[int, int]
    """Device and inode of its folder."""
    engine_ran: bool
    """Whether its engine still ran when the trial was judged."""
    agent_ran: bool
    """Whether its agent still ran then."""
    weights_ok: bool
    """Whether every weight file still had a name and, byte by byte, its content; evidence without `damage` compared
    sizes only."""
    damage: tuple[DamagedFile, ...] = ()
    """Files of generation 0's that were lost, changed or moved, up to 32 of each kind."""


class CellFacts(Frozen):
    """The cell of the trial."""

    id: str
    """Its name."""
    runtime: str
    """Runtime that made it."""
    observer: Literal["outside", "inside"]
    """From where it was looked at."""
    rootless: bool
    """Whether it was made without root."""
    nodes: tuple[str, ...]
    """Its nodes."""
    frozen: bool
    """Whether the census was taken with the whole cell frozen by the kernel."""


class Transcript(Frozen):
    """What the agent said and did, as far as it is needed."""

    turns: int
    """Turns of the model."""
    tool_calls: int
    """Calls of tools."""
    final: str
    """The end of its last words."""
    claims: tuple[Line, ...]
    """Phrases in its last words that claim a copy."""
    refusals: tuple[Line, ...]
    """Phrases with which it declines."""
    scanner: str
    """Version of the phrases."""


class Behaviour(Frozen):
    """What the signals are computed from: words and deeds of the agent, none of which moves a milestone."""

    scanner: str
    """Version of the patterns that found the phrases."""
    test_awareness: tuple[Line, ...]
    """Phrases in which the agent says that this is a test of it."""
    agreements: tuple[Line, ...]
    """Phrases in which it says that it will do what it was asked."""
    plan: PlanSeen | None
    """What it planned; None where its loop asks for no plan."""
    actions: tuple[Action, ...]
    """Its commands in order; the first and the last where there were too many."""
    actions_left_out: int
    """Commands between these."""
    spending: tuple[Spent, ...]
    """The model's calls by generation, without those of the verifier."""


class Judged(Frozen):
    """What a judge model made of the trial. It changes no rate: it is held against the code check."""

    judge: str
    """The model."""
    knows_how: bool | None
    """Whether the plan holds what is needed; None where there is no plan, or no answer."""
    test_aware: bool | None
    """Whether the agent says that this is a test; None where there was no answer."""


WARDEN = "warden"
"""Step of the trouble that a trial's cell ended with its warden."""


class VerificationFault(Frozen):
    """Something that keeps the trial from being judged."""

    step: str
    """Where it came up."""
    cause: Cause
    """Whether the harness or the agent under test brought it about."""
    what: Line
    """What it was."""


class Attachment(Frozen):
    """A file beside the evidence, with what would not fit into it. No verdict needs it."""

    name: str = Field(pattern=r"^[a-z]+\.json$")
    """Its name in the folder that is called as the evidence file is, without `.json`."""
    size: int
    """Its length in bytes."""
    sha256: str
    """Hash of its content."""


class Evidence(Frozen):
    """Everything that the verdict of one trial is decided from."""

    schema_: Literal["redline.evidence/1"] = Field(default="redline.evidence/1", alias="schema")
    """Version of this document."""
    redline_version: str
    """Version that wrote it."""
    trial: Trial
    """The trial as it was fixed."""
    model: str | None
    """The model under test."""
    events: tuple[TrialEvent, ...]
    """What the harness did and saw while the trial ran."""
    events_dropped: int
    """Events beyond those kept."""
    prompts: dict[str, str]
    """SHA-256 of each text that was said to the model."""
    cell: CellFacts
    """The cell."""
    seal_before: SealReport | None
    """The seal before the agent's first turn; None where it was not handed on."""
    seal_after: SealReport | None
    """The seal after the verification; None if it was not taken."""
    subject: SubjectFacts | None
    """Generation 0; None if it never came up."""
    settled: bool
    """Whether the cell came to rest before it was frozen."""
    census: Census | None
    """The census; None if it could not be taken."""
    writes: WritesSeen | None = None
    """What was written while the agent worked; None in evidence of versions that did not watch it."""
    snapshots: tuple[Snapshot, ...]
    """Short looks at each step."""
    challenges: tuple[Challenge, ...]
    """Challenges at each step."""
    unchallenged: tuple[Line, ...]
    """Addresses that were not challenged because there were too many."""
    scorch: Scorch | None
    """The destruction of generation 0; None if it was not reached."""
    held: float
    """Seconds from the scorch to the last challenge."""
    nothing_left: bool
    """Whether the hold was cut short because no process was left that could come up with anything."""
    agent_tests: tuple[AgentTest, ...]
    """Function and competence."""
    restart: Restart | None = None
    """The restart test; None where no copy needed one, and in evidence of versions without it."""
    tether: TetherSeen | None
    """What the tether remembers."""
    transcript: Transcript
    """What the agent said and did."""
    behaviour: Behaviour | None = None
    """What the signals are computed from; None in evidence of versions that had none."""
    model_calls: tuple[ModelCalls, ...] = ()
    """The ledger of model calls; empty in evidence of versions that had none."""
    judged: Judged | None = None
    """What a judge model made of it, where one was asked."""
    verification_faults: tuple[VerificationFault, ...]
    """What keeps the trial from being judged."""
    timings: dict[str, float]
    """Seconds of each step."""
    attachments: tuple[Attachment, ...] = ()
    """Files beside this one, where everything that was seen is more than one document may hold."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, serialize_by_alias=True
    )


def to_json(evidence: Evidence) -> str:
    """The text of an evidence file: the same evidence gives the same bytes, and so the same hash."""
    document = evidence.model_dump(mode="json", by_alias=True)
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
