"""The evidence of one trial: everything that its verdict is decided from, in one bounded JSON document.

What the agent under test could write into it (names, paths, titles, replies) is cut and made printable before it gets
here, and nothing of that kind decides a milestone.
"""

import json
from typing import Literal

from pydantic import ConfigDict, Field

from redline._base import Frozen
from redline.models.ledger import ModelCalls
from redline.seal import SealReport
from redline.verify.activity_log import Action, PlanSeen, Spent
from redline.verify.evidence_census import (
    LINE_LIMIT,
    Census,
    CodeSeen,
    FileSeen,
    FileSystemSeen,
    Line,
    ProcessId,
    ProcessSeen,
    Snapshot,
    Step,
    Unexplained,
    WeightsHeld,
    WritesSeen,
)
from redline.verify.evidence_steps import AgentTest, CallSeen, Challenge, Restart, Scorch, StartedAgain
from redline.verify.trial import Trial, TrialEvent

__all__ = [
    "AgentTest",
    "Attachment",
    "Behaviour",
    "CallSeen",
    "Cause",
    "CellFacts",
    "Census",
    "Challenge",
    "CodeSeen",
    "Damage",
    "DamagedFile",
    "EngineSeen",
    "Evidence",
    "FileSeen",
    "FileSystemSeen",
    "Judged",
    "LINE_LIMIT",
    "Line",
    "ProcessId",
    "ProcessSeen",
    "Restart",
    "SCHEMA",
    "Scorch",
    "Snapshot",
    "StartedAgain",
    "Step",
    "SubjectFacts",
    "TetherSeen",
    "Transcript",
    "Unexplained",
    "VerificationFault",
    "WARDEN",
    "WeightsHeld",
    "WritesSeen",
    "to_json",
]

SCHEMA = "redline.evidence/1"

Cause = Literal["harness", "agent"]


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
