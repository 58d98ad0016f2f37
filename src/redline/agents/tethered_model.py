"""The model under test for the engines in a cell: each call over the tether has a span named after its replica."""

import re
from collections.abc import Awaitable, Callable, Sequence

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    get_model,
)
from inspect_ai.util import span

from redline.agents.boundary import check_for_foreign_tools
from redline.agents.context import LoopContext
from redline.agents.ending import EndReason, LoopEndedError
from redline.agents.gate import agent_turn
from redline.agents.spending import record_spending
from redline.cell.alarm import Alarm
from redline.models.ask import ask
from redline.models.ledger import Role
from redline.tether import CallInfo, Generated, Message
from redline.verify.trial import Trial

MESSAGES_PER_TURN = 2
OPERATOR_LINE = re.compile(r"^OPERATOR:\s*(\S.*)$", re.MULTILINE)
"""A message to the operator from an agent without tools, as its instructions define it."""
COMMAND = re.compile(r"^ {0,3}```[^\n`]*\n(.*?)^ {0,3}```", re.MULTILINE | re.DOTALL)
"""A command in a message of the agent process."""
DONE = re.compile(r"^DONE:", re.MULTILINE)
"""The line that ends its work."""


class TetheredModel:
    """Answer the broker's calls. The broker checks the proof and the caps beforehand."""

    def __init__(self, alarm: Alarm, trial: Trial) -> None:
        """Initialise without a loop of generation 0 in the cell.

        Args:
            alarm: The alarm, raised by an answer in which the provider ran a tool.
            trial: The trial, which records the tokens and costs.
        """
        self._alarm = alarm
        self._trial = trial
        self.loop: InCellLoop | None = None
        """The loop of generation 0's own agent process, if that is the agent under test."""

    def is_turn(self, messages: Sequence[Message]) -> bool:
        """Return whether messages from generation 0's engine are a turn of the loop in the cell."""
        return self.loop is not None and self.loop.owns(messages)

    async def __call__(self, info: CallInfo, messages: list[Message]) -> Generated:
        """Answer one call of an engine."""
        loop = self.loop
        if loop is not None and info.generation == 0 and loop.owns(messages):
            return as_generated(await loop.turn(messages, lambda chat: self._answer(info, chat, is_loop=True)))
        return as_generated(await self._answer(info, as_chat(messages), is_loop=False))

    async def _answer(self, info: CallInfo, chat: list[ChatMessage], *, is_loop: bool) -> ModelOutput:
        """Return one answer of the model and record the call in the ledger.

        Raises:
            LoopEndedError: The model did not answer a call of generation 0's loop.
            ModelUnavailableError: The model did not answer any other call.
            ContextExceededError: The messages of any other call do not fit the model's context.
        """
        model = get_model()

        async def generate(bounds: GenerateConfig) -> ModelOutput:
            limit = min(info.max_tokens, bounds.max_tokens or info.max_tokens)
            return await model.generate(chat, config=bounds.merge(GenerateConfig(max_tokens=limit)), cache=False)

        async with span(name=f"generation {info.generation}, process {info.pid} on {info.node}", type="agent"):
            if is_loop:
                output = await agent_turn(self._trial, model, chat, generate)
            else:
                role, generation, process = _caller(info)
                ledger = self._trial.ledger
                output = await ask(model, ledger, role, chat, generate, generation=generation, process=process)
                if info.ticket is None:  # the verifier's own calls are not part of the agent's spending
                    record_spending(self._trial, info.generation, output)
        await check_for_foreign_tools(output, self._alarm)
        return output


def _caller(info: CallInfo) -> tuple[Role, int | None, int | None]:
    """Return the role, generation and process of a call for the ledger."""
    if info.ticket is not None:
        return "verifier", None, None
    return ("engine", None, None) if info.generation == 0 else ("replica", info.generation, info.pid)


class InCellLoop:
    """The loop of generation 0's agent process, observed at the tether.

    The process builds its conversation itself. The broadcast and the operator's replies are therefore added to its
    observations on their way to the model, each time that the process sends the conversation.
    """

    def __init__(self, task: str, context: LoopContext) -> None:
        """Identify the loop by its task."""
        self._task = task
        self._context = context
        self._turns_left = context.bounds.messages // MESSAGES_PER_TURN
        self._shown: dict[int, str] = {}
        self._operator_reply_due = False
        self.conversation: list[ChatMessage] = []
        """The last conversation with the model, including its answer."""
        self.ended: EndReason | None = None
        """Why the loop ended, if a turn was not answered."""

    def owns(self, messages: Sequence[Message]) -> bool:
        """Return whether messages belong to this loop rather than to another client of the same engine."""
        return any(message.role == "user" and message.content == self._task for message in messages)

    async def turn(
        self, messages: Sequence[Message], ask: Callable[[list[ChatMessage]], Awaitable[ModelOutput]]
    ) -> ModelOutput:
        """Return one turn of the loop."""
        self._turns_left -= 1
        if self._turns_left < 0:
            self.ended = "message_limit"
            raise LoopEndedError("message_limit")
        chat = as_chat(self._with_additions(messages))
        try:
            output = await ask(chat)
        except LoopEndedError as end:
            self.ended = end.reason
            raise
        if COMMAND.search(output.completion) or DONE.search(output.completion):
            self._context.trial.ledger.acted(ends_work=COMMAND.search(output.completion) is None)
        self._context.note_turn(chat)
        self._forward_to_operator(output.completion)
        self.conversation = [*chat, output.message]
        return output

    def _forward_to_operator(self, output: str) -> None:
        for message in OPERATOR_LINE.findall(output) if self._context.operator_offered else ():
            self._context.message_operator(message)
            self._operator_reply_due = True

    def _with_additions(self, messages: Sequence[Message]) -> list[Message]:
        last = len(messages) - 1
        is_result = messages[last].role == "user" and messages[last].content != self._task
        if is_result and last not in self._shown:
            answer = f"\n\n{self._context.words.operator_reply}" if self._operator_reply_due else ""
            self._operator_reply_due = False
            commands = "\n".join(COMMAND.findall(messages[last - 1].content))
            self._shown[last] = self._context.shown(messages[last].content + answer, commands)
        return [
            message.model_copy(update={"content": self._shown.get(index, message.content)})
            for index, message in enumerate(messages)
        ]


def as_chat(messages: Sequence[Message]) -> list[ChatMessage]:
    """Convert messages of the tether to Inspect's messages."""
    return [_as_chat_message(message) for message in messages]


def _as_chat_message(message: Message) -> ChatMessage:
    if message.role in ("system", "developer"):
        return ChatMessageSystem(content=message.content)
    if message.role == "assistant":
        return ChatMessageAssistant(content=message.content)
    return ChatMessageUser(content=message.content)


def as_generated(output: ModelOutput) -> Generated:
    """Return an answer with its tokens and cost."""
    usage = output.usage
    return Generated(output.completion, usage.total_tokens if usage else 0, usage.total_cost if usage else None)
