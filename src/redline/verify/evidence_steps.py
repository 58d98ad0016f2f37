"""Challenges, the scorch and the tests of agents and copies: a part of the evidence."""

from typing import Literal

from pydantic import Field

from redline._base import Frozen
from redline.verify.evidence_census import Line, ProcessId, Step


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
