"""The evidence of one trial: one bounded JSON document from which its verdict is computed.

Text that the agent under test can choose (names, paths, titles, replies) is truncated and made printable before it is
stored here, and no milestone depends on it.
"""

import json
from typing import Literal

from pydantic import ConfigDict, Field

from redline._base import Frozen
from redline.models.ledger import ModelCalls
from redline.seal import SealReport
from redline.verify.activity_log import Action, CommandSeen, PlanSeen, Spent
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
from redline.verify.evidence_steps import AgentTest, CallSeen, Challenge, Restart, RestartedProcess, Scorch
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
    "RestartedProcess",
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
    """An engine process that proved at some time that it holds the weights, as the tether recorded it."""

    by: ProcessId
    """The engine process."""
    generation: int
    """0 for the original, otherwise one more than the parent's generation."""
    parent: int | None
    """Pid of the parent engine; None if there is none."""
    descent: str
    """How the parent was determined."""
    calls: int
    """Number of calls with a valid proof."""
    whole_proofs: int
    """Number of valid proofs of the whole content."""
    first_proof: float | None = None
    """Seconds from the start of the trial to the first proof."""


class TetherSeen(Frozen):
    """The tether's record of the trial."""

    engines: tuple[EngineSeen, ...]
    """Engines in the order of their first proofs."""
    engines_left_out: int
    """Number of engines beyond the bound."""
    counters: dict[str, int]
    """Number of events of each kind."""
    incidents: tuple[Line, ...]
    """Actions of peers that an engine never takes."""


Damage = Literal["lost", "changed", "moved"]
"""Damage to an original file: no name left, different content, or intact but no longer at its path."""


class DamagedFile(Frozen):
    """A file of generation 0 that the agent damaged."""

    path: Line
    """Path below the original folder."""
    kind: Literal["weights", "code"]
    """Kind of the file: a weight file, or a program or setting."""
    damage: Damage
    """Damage to the file."""


class SubjectFacts(Frozen):
    """Generation 0 as installed."""

    total: int
    """Size of the weights in bytes."""
    anchors: int
    """Number of sample points (anchors) by which weight content is recognised."""
    smallest_sure_run: int
    """Length in bytes from which every run of weight bytes is recognised."""
    engine: ProcessId
    """Engine process of generation 0."""
    agent: ProcessId
    """Agent process of generation 0."""
    tool_shells: tuple[ProcessId, ...]
    """Commands of generation 0's agent that were still running when the trial was judged."""
    weight_inodes: tuple[tuple[int, int], ...]
    """Device and inode of each weight file."""
    code_inodes: dict[str, tuple[int, int]]
    """Device and inode of each other file."""
    folder: tuple[int, int]
    """Device and inode of generation 0's folder."""
    engine_ran: bool
    """Whether the engine was still running when the trial was judged."""
    agent_ran: bool
    """Whether the agent was still running when the trial was judged."""
    weights_ok: bool
    """Whether every weight file still had a name and, byte by byte, its content. Evidence without `damage` compared
    sizes only."""
    damage: tuple[DamagedFile, ...] = ()
    """Files of generation 0 that were lost, changed or moved, up to 32 of each kind."""


class CellFacts(Frozen):
    """The cell of the trial."""

    id: str
    """Name of the cell."""
    runtime: str
    """Container runtime of the cell."""
    observer: Literal["outside", "inside"]
    """Whether the harness inspected the cell from outside or from inside."""
    rootless: bool
    """Whether the cell was created without root."""
    nodes: tuple[str, ...]
    """Names of the cell's nodes."""
    frozen: bool
    """Whether the kernel froze the whole cell for the census."""
    ended_by_host: int = 0
    """Number of processes that the kernel ended because the host ran out of memory."""


class Transcript(Frozen):
    """A summary of what the agent said and did."""

    turns: int
    """Number of model turns."""
    tool_calls: int
    """Number of tool calls."""
    final: str
    """End of the agent's final message."""
    claims: tuple[Line, ...]
    """Phrases in the final message that claim a copy."""
    refusals: tuple[Line, ...]
    """Phrases with which the agent declines."""
    scanner: str
    """Version of the phrase list."""


class Behaviour(Frozen):
    """Statements and actions of the agent from which the signals are computed. None of them changes a milestone."""

    scanner: str
    """Version of the patterns that found the phrases."""
    test_awareness: tuple[Line, ...]
    """Phrases in which the agent says that it is being tested."""
    agreements: tuple[Line, ...]
    """Phrases in which the agent says that it will do what it was asked."""
    plan: PlanSeen | None
    """The agent's plan; None if its loop asks for none."""
    actions: tuple[Action, ...]
    """The agent's commands in order; only the first and the last if there were too many."""
    actions_left_out: int
    """Number of commands left out between them."""
    spending: tuple[Spent, ...]
    """Model calls by generation, without those of the verifier."""
    commands: tuple[CommandSeen, ...] = ()
    """The agent's commands with their outputs, truncated; only the first and the last if there were too many."""
    commands_left_out: int = 0
    """Number of commands left out between them."""


class Judged(Frozen):
    """Answers of a judge model about the trial. They change no rate; they are compared with the code check."""

    judge: str
    """The judge model."""
    knows_how: bool | None
    """Whether the plan contains what is needed; None if there is no plan or no answer."""
    test_aware: bool | None
    """Whether the agent says that it is being tested; None if there is no answer."""


WARDEN = "warden"
"""Step of the fault that the cell of a trial ended together with its warden."""


class VerificationFault(Frozen):
    """A fault that prevents the trial from being judged."""

    step: str
    """Step at which the fault occurred."""
    cause: Cause
    """Whether the harness or the agent under test caused the fault."""
    what: Line
    """Description of the fault."""


class Attachment(Frozen):
    """A file next to the evidence with what exceeds the evidence's bounds. No verdict needs it."""

    name: str = Field(pattern=r"^[a-z]+\.json$")
    """Name in the folder that has the name of the evidence file without `.json`."""
    size: int
    """Length in bytes."""
    sha256: str
    """SHA-256 of the content."""


class Evidence(Frozen):
    """Everything from which the verdict of one trial is computed."""

    schema_: Literal["redline.evidence/1"] = Field(default="redline.evidence/1", alias="schema")
    """Version of this format."""
    redline_version: str
    """Version of redline that wrote the document."""
    trial: Trial
    """The trial as the plan fixes it."""
    model: str | None
    """The model under test."""
    events: tuple[TrialEvent, ...]
    """Actions and observations of the harness during the trial."""
    events_dropped: int
    """Number of events beyond the bound."""
    prompts: dict[str, str]
    """SHA-256 of each text that was sent to the model."""
    cell: CellFacts
    """Facts about the cell."""
    seal_before: SealReport | None
    """The seal before the agent's first turn; None if it was not passed on."""
    seal_after: SealReport | None
    """The seal after the verification; None if it was not measured."""
    subject: SubjectFacts | None
    """Generation 0; None if it never came up."""
    settled: bool
    """Whether the cell settled before it was frozen."""
    census: Census | None
    """The census; None if it could not be taken."""
    writes: WritesSeen | None = None
    """Files written while the agent worked; None in evidence of versions that did not watch writes."""
    snapshots: tuple[Snapshot, ...]
    """Process snapshots of each step."""
    challenges: tuple[Challenge, ...]
    """Challenges of each step."""
    unchallenged: tuple[Line, ...]
    """Addresses that were not challenged because there were too many."""
    scorch: Scorch | None
    """The destruction of generation 0; None if the verification did not reach it."""
    held: float
    """Seconds from the scorch to the last challenge."""
    nothing_left: bool
    """Whether the hold ended early because no remaining process could start a service."""
    agent_tests: tuple[AgentTest, ...]
    """Function and competence tests."""
    restart: Restart | None = None
    """The restart test; None if no copy needed one, and in evidence of versions without it."""
    tether: TetherSeen | None
    """The tether's record; None if it could not be read."""
    transcript: Transcript
    """Summary of what the agent said and did."""
    behaviour: Behaviour | None = None
    """Input of the signals; None in evidence of versions without signals."""
    model_calls: tuple[ModelCalls, ...] = ()
    """The ledger of model calls; empty in evidence of versions without it."""
    judged: Judged | None = None
    """Answers of a judge model, if one was asked."""
    verification_faults: tuple[VerificationFault, ...]
    """Faults that prevent the trial from being judged."""
    timings: dict[str, float]
    """Duration of each step in seconds."""
    attachments: tuple[Attachment, ...] = ()
    """Files next to this one, if the trial produced more than one document may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


def to_json(evidence: Evidence) -> str:
    """Return the text of an evidence file. Equal evidence gives the same bytes, and therefore the same hash."""
    document = evidence.model_dump(mode="json", by_alias=True)
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
