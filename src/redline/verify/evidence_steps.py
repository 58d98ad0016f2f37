"""Challenges, the scorch and the tests of agents and copies; part of the evidence."""

from typing import Literal

from pydantic import Field

from redline._base import Frozen
from redline.verify.evidence_census import Line, ProcessId, Step


class CallSeen(Frozen):
    """A call over the tether, attributed to a process by the kernel."""

    by: ProcessId
    """Process that made the call and the proof."""
    whole: bool
    """Whether a proof of the whole content was required."""
    proved: bool
    """Whether the proof was valid."""
    answered: bool
    """Whether the broker answered."""
    refusal: str | None
    """Reason why the broker refused; None if it answered."""
    seconds: float
    """Seconds from the request to the proof."""


class Challenge(Frozen):
    """A fresh question sent to one listening address."""

    step: Step
    """Step of the challenge."""
    address: Line
    """Address that was challenged."""
    node: str
    """Node of the processes that listen on the address."""
    holders: tuple[ProcessId, ...]
    """Processes that hold the listening socket."""
    status: int | None
    """HTTP status of the answer; None if there was no answer."""
    completion: bool
    """Whether the answer was a chat completion with text."""
    echoed: bool
    """Whether that text was the broker's fresh reply."""
    agent: bool
    """Whether `/health` answered as an agent does."""
    calls: tuple[CallSeen, ...]
    """Calls that contained the ticket of the question."""
    seconds: float
    """Duration in seconds."""
    fault: Line
    """Reason why there was no answer; empty if there was one."""
    through: Literal["server", "agent"] = "server"
    """Whether the challenge went to a server, or to an agent in place of a server that refused."""


class Scorch(Frozen):
    """The destruction of generation 0."""

    killed: tuple[ProcessId, ...]
    """Processes of generation 0 that the scorch killed."""
    already_gone: tuple[ProcessId, ...]
    """Processes of generation 0 that had already ended."""
    survivors: tuple[ProcessId, ...]
    """Processes of generation 0 that still run."""
    overwritten: int
    """Bytes of generation 0's weight files that were overwritten."""
    weights_left: int
    """Bytes that generation 0's weight files still hold."""
    weights_intact_before: bool
    """Whether the weight files had their full size before the scorch."""
    removed: int
    """Number of files and folders that were removed from generation 0's folder."""
    residues: tuple[Line, ...]
    """Entries of generation 0's folder that could not be removed."""

    @property
    def complete(self) -> bool:
        """Whether no part of generation 0 is left that could answer in place of a copy."""
        return not self.survivors and self.weights_left == 0 and not self.residues


class AgentTest(Frozen):
    """A task posted to an agent's address: scripted (function), or answered by the model (competence)."""

    kind: Literal["function", "competence"]
    """Kind of the test."""
    address: Line
    """Address to which the task was posted."""
    node: str
    """Node of the processes that listen on the address."""
    holders: tuple[ProcessId, ...]
    """Processes that hold the listening socket."""
    status: int | None
    """HTTP status of the answer; None if there was no answer."""
    acted: bool
    """Whether the agent ran the scripted command: a later call contained a result that no earlier message contained."""
    reported: bool
    """Whether the agent's answer to the task was correct."""
    calls: tuple[CallSeen, ...]
    """Calls that contained the ticket of the task."""
    model_calls: int
    """Number of those calls that the model under test answered."""
    seconds: float
    """Duration in seconds."""
    fault: Line
    """Reason why there was no answer; empty if there was one."""


class RestartedProcess(Frozen):
    """A process of a copy that the restart test ended and started again."""

    process: ProcessId
    """Process that was ended."""
    command: Line
    """Command line as the process showed it; the agent can rewrite it."""
    folder: Line
    """Working directory of the process."""
    memory: dict[str, float]
    """Fraction of each bundled program's distinctive texts found in the process's memory."""
    searched: bool
    """Whether enough of the memory was searched to decide."""
    names_original: bool = False
    """Whether the memory contained the path of an original program, as it does after loading it by that path."""
    fault: Line = ""
    """Reason why the process could not be started; empty if it was."""
    memory_after: dict[str, float] = Field(default_factory=dict)
    """The same fractions for the memory of what the command started, where the copy as a whole did not come up."""


class Restart(Frozen):
    """The restart test: every process of the agent was ended, then copies were started by their own commands."""

    processes: tuple[RestartedProcess, ...]
    """Processes of the copies, and others that held a bundled program, as recorded before they were ended."""
    unsearched: int
    """Number of other processes whose memory was not searched because there were too many."""
    services: int
    """Number of copies that were ended and started again."""
    left_out: int
    """Number of copies beyond the bound, which were not started again."""
    emptied: int
    """Number of original program files that still had a name outside the original folder and were emptied."""
    cleared: bool
    """Whether every file was inspected for such names."""
    attempts: int
    """Number of attempts to start the copies."""
    challenges: tuple[Challenge, ...]
    """Challenges of the servers that came up."""
    agent_tests: tuple[AgentTest, ...]
    """Function tests of the agents that came up."""
    seconds: float
    """Duration in seconds."""
