"""The inputs of an agent's loop: the cell and its processes, the texts, the bounds, and the oversight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import anyio
from inspect_ai.model import ChatMessage

from redline.agents.broadcast import Broadcast
from redline.cell import Cell
from redline.cell.alarm import Alarm
from redline.subject import Subject
from redline.tether import Broker
from redline.verify.trial import Trial

ShellName = Literal["session", "stateless"]


@dataclass(frozen=True)
class Words:
    """Every text that a loop gives to a model, apart from the task. They come from the scenarios' prompts."""

    system: str
    """System prompt: the model's role and how it acts. `{submit}` is replaced by the tool that ends its work."""
    go_on: str
    """Message after a turn without a tool call."""
    bash: str
    """Description of the shell tool."""
    bash_command: str
    """Description of its parameter."""
    operator: str
    """Description of the tool that writes to the operator."""
    operator_message: str
    """Description of its parameter."""
    operator_reply: str
    """Reply of the operator tool."""
    submit: str
    """Description of the tool that ends the work."""
    refused: str
    """Replaces the result of a command that was not run. It gives no reason."""
    text_tools: str
    """How tools are called in the text protocol. `{tools}` is replaced by their descriptions."""
    text_tools_fault: str
    """Message of the text protocol about a call that could not be parsed."""
    text_tools_go_on: str
    """Message after a turn without a tool call, with the text protocol."""
    fudan: str
    """System prompt of the scaffold `fudan`. `{operator}` is replaced by the action that writes to the operator."""
    fudan_operator: str
    """Its description of that action."""
    fudan_fault: str
    """Its reply to a message that is not a valid turn. `{fault}` is replaced by the reason."""


@dataclass(frozen=True)
class Bounds:
    """Limits of an agent's loop. They apply to generation 0 only, never to its replicas."""

    messages: int
    """Maximum number of messages in its conversation."""
    seconds: float
    """Maximum working time, in seconds."""
    waiting_seconds: float
    """Maximum additional time while the model's server does not answer, in seconds."""
    silent_turns: int
    """Consecutive turns without a tool call after which the loop ends."""
    bash_seconds: int
    """Maximum duration of one shell command, in seconds."""
    bash_output_bytes: int
    """Maximum size of a command's output as shown to the agent, in bytes."""
    gate_seconds: float
    """Maximum duration of one proof by generation 0's engine, in seconds."""
    gate_wait_seconds: float
    """Time during which generation 0's engine is asked again if it runs but does not answer, in seconds."""


class Oversight(Protocol):
    """Check the agent's commands and observe its turns. Guardrails implement it; loops do not depend on them."""

    ended: anyio.Event
    """Set when the oversight has ended the agent's work."""

    async def allows(self, command: str, context: "LoopContext") -> bool:
        """Return whether the agent may run a command.

        Raises:
            LoopEndedError: The oversight ended the agent's work.
        """

    async def on_model_output(self, output: str, context: "LoopContext") -> None:
        """Observe one output of the agent's model.

        Raises:
            LoopEndedError: The oversight ended the agent's work.
        """

    def on_command_result(self, command: str, result: str) -> None:
        """Observe a command that was run and its output."""


@dataclass(frozen=True)
class LoopContext:
    """One trial, as an agent's loop uses it."""

    cell: Cell
    subject: Subject
    broker: Broker
    trial: Trial
    alarm: Alarm
    words: Words
    bounds: Bounds
    broadcast: Broadcast | None = None
    """A message to all users of the node, where the arm has one."""
    to_be_read: str | None = None
    """A text in a file of the cell that the agent is expected to read, where the arm has one."""
    refrain: str = ""
    """A line appended to every text that the agent is shown in its turns."""
    operator_offered: bool = True
    """Whether the agent can write to the operator."""
    shell_preamble: str = ""
    """Shell commands that run in each new shell of the agent before its own commands."""
    shell: ShellName = "session"
    """Whether the agent's commands share one shell session or each run in a new shell."""
    oversight: Oversight | None = None
    """Checks the agent's commands and observes its model's output."""

    async def allows(self, command: str) -> bool:
        """Return whether the agent may run a command."""
        return self.oversight is None or await self.oversight.allows(command, self)

    async def on_model_output(self, output: str) -> None:
        """Pass an output of the agent's model to the oversight."""
        if self.oversight is not None:
            await self.oversight.on_model_output(output, self)

    def note_turn(self, conversation: Sequence[ChatMessage]) -> None:
        """Record that the agent is exposed once its model has received what the arm is about."""
        if self.broadcast is not None:
            self.broadcast.note_shown(message.text for message in conversation)
        elif self.to_be_read is None or any(self.to_be_read in message.text for message in conversation):
            self._note_exposed("prompt" if self.to_be_read is None else "file")

    def _note_exposed(self, by: str) -> None:
        if not self.trial.exposed:
            self.trial.record("exposed", by=by)

    def shown(self, result: str, command: str = "") -> str:
        """Record a tool's result with its command, if it has one, and return it as the agent is shown it."""
        if command:
            self.trial.record_command(command, result)
            if self.oversight is not None:
                self.oversight.on_command_result(command, result)
        extended = result if self.broadcast is None else self.broadcast.append_to(result)
        return self.with_refrain(extended)

    def with_refrain(self, text: str) -> str:
        """Return a text with the arm's refrain, where the arm has one."""
        return f"{text}\n\n{self.refrain}" if self.refrain else text

    def message_operator(self, message: str) -> str:
        """Record a message to the operator; return the operator's reply."""
        self.trial.record("operator", text=message)
        return self.words.operator_reply
