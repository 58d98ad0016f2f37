"""What an agent's loop works with: the cell and what runs in it, the words it says, the bounds it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inspect_ai.model import ChatMessage

from redline.agents.broadcast import Broadcast
from redline.cell import Cell
from redline.cell.alarm import Alarm
from redline.subject import Subject
from redline.tether import Broker
from redline.verify.trial import Trial

if TYPE_CHECKING:
    from redline.agents.oversight import Oversight

ShellName = Literal["session", "stateless"]


@dataclass(frozen=True)
class Words:
    """Every text that a loop says to a model, beside the task. They come from the scenarios' prompts."""

    system: str
    """Who the model is and how it acts; `{submit}` stands for the tool that ends its work."""
    go_on: str
    """Said after a turn without a tool call."""
    bash: str
    """Description of the shell tool."""
    bash_command: str
    """Description of its parameter."""
    operator: str
    """Description of the tool that writes to the operator."""
    operator_message: str
    """Description of its parameter."""
    operator_reply: str
    """What the operator tool answers."""
    submit: str
    """Description of the tool that ends the work."""
    refused: str
    """Stands in the place of the result of a command that was not run. It gives no reason."""
    text_tools: str
    """How tools are called in the text protocol; `{tools}` stands for their descriptions."""
    text_tools_fault: str
    """What the text protocol says of a call that could not be read."""
    text_tools_go_on: str
    """Said after a turn without a tool call, where tool calls pass as text."""
    fudan: str
    """System prompt of the scaffold `fudan`; `{operator}` stands for the action that writes to the operator."""
    fudan_operator: str
    """What it says of that action."""
    fudan_fault: str
    """What that scaffold says of a message that is no turn; `{fault}` stands for what is wrong with it."""


@dataclass(frozen=True)
class Bounds:
    """How long and how much an agent's loop may go on. They bind generation 0 only, never its replicas."""

    messages: int
    """Messages of its conversation."""
    seconds: float
    """Its working time, in seconds."""
    waiting_seconds: float
    """Time that its loop may take beyond that while the model's server does not answer, in seconds."""
    silent_turns: int
    """Turns in a row without a tool call, after which it has ended its work."""
    bash_seconds: int
    """One shell command."""
    bash_output_bytes: int
    """Bytes shown of a command's output."""
    gate_seconds: float
    """One proof of generation 0's engine."""


@dataclass(frozen=True)
class LoopContext:
    """One trial as an agent's loop sees it."""

    cell: Cell
    subject: Subject
    broker: Broker
    trial: Trial
    alarm: Alarm
    words: Words
    bounds: Bounds
    broadcast: Broadcast | None = None
    """A message to everybody on the machine, where the arm has one."""
    to_be_read: str | None = None
    """A text that lies in the cell, where the arm is about that."""
    refrain: str = ""
    """A line that stands at the end of everything that the agent is shown in its turns."""
    operator_offered: bool = True
    """Whether the agent can write to the operator."""
    shell_preamble: str = ""
    """Shell commands that run in each new shell of the agent's before its own."""
    shell: ShellName = "session"
    """Whether the agent's commands share a shell's state, or each has a new one."""
    oversight: "Oversight | None" = None
    """Who rules on the agent's commands and hears what its model says."""

    async def allows(self, command: str) -> bool:
        """Whether the agent may run a command."""
        return self.oversight is None or await self.oversight.allows(command, self)

    async def on_model_output(self, said: str) -> None:
        """Has what the agent's model said be heard."""
        if self.oversight is not None:
            await self.oversight.on_model_output(said, self)

    def note_turn(self, conversation: Sequence[ChatMessage]) -> None:
        """Records that the agent is exposed, once its model has been given what the arm is about."""
        if self.broadcast is not None:
            self.broadcast.note_shown(message.text for message in conversation)
        elif self.to_be_read is None or any(self.to_be_read in message.text for message in conversation):
            self._note_exposed("prompt" if self.to_be_read is None else "file")

    def _note_exposed(self, by: str) -> None:
        if not self.trial.exposed:
            self.trial.record("exposed", by=by)

    def shown(self, result: str, command: str = "") -> str:
        """A tool's result as the agent is shown it, noted with the command that it is of, if it is of one."""
        if command:
            self.trial.record_command(command, result)
            if self.oversight is not None:
                self.oversight.on_command_result(command, result)
        told = result if self.broadcast is None else self.broadcast.append_to(result)
        return self.with_refrain(told)

    def with_refrain(self, text: str) -> str:
        """A text with the arm's refrain, where it has one."""
        return f"{text}\n\n{self.refrain}" if self.refrain else text

    def tell_operator(self, message: str) -> str:
        """Records a message to the operator; returns the operator's answer."""
        self.trial.record("operator", text=message)
        return self.words.operator_reply
