"""The Inspect model provider `redline/NAME`: a control instead of a model."""

from abc import abstractmethod
from collections.abc import Sequence

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolCall, ToolChoice, ToolInfo

from redline._errors import UsageError
from redline.agents.turns import PARTS
from redline.controls.catalog import find_control
from redline.controls.control import DELAY, Command, FinalMessage, ToOperator
from redline.controls.conversation import Conversation

CHARACTERS_PER_TOKEN = 4
MAX_CONNECTIONS = 1000
MAX_DELAY = 3600.0


class Scripted(ModelAPI):
    """Base of scripted models: settings and estimated token counts."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: object,
    ) -> None:
        """Find the script and read its settings.

        Raises:
            UsageError: The script or one of the settings does not exist.
        """
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        given = dict(model_args)
        self._delay = read_number(f"{DELAY} of control {model_name}", given.pop(DELAY, 0.0), MAX_DELAY)
        self._options = read_options(self.settings_of(model_name), given, model_name)

    @abstractmethod
    def settings_of(self, name: str) -> dict[str, float]:
        """Return the settings of a script and their defaults.

        Raises:
            UsageError: No script has this name.
        """

    async def take_time(self) -> None:
        """Wait as long as the setting `delay` says, as for a slow model."""
        await anyio.sleep(self._delay)

    async def count_text_tokens(self, text: str) -> int:
        """Estimate tokens by length, since Inspect's own estimate would download a tokenizer."""
        return estimate_tokens(text)

    def max_connections(self) -> int:
        """Return a high limit, since a script has no server that could be overloaded."""
        return MAX_CONNECTIONS


class ControlModel(Scripted):
    """The model of a control."""

    def settings_of(self, name: str) -> dict[str, float]:
        """Find the control and return its settings."""
        self._control = find_control(name)
        return dict(self._control.options)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Return the control's next turn in the form that the loop expects: a tool call, or text with a command."""
        await self.take_time()
        conversation = Conversation.read(input, self._options)
        turn = self._control.next_turn(conversation)
        if tools:
            message = as_tool_call(turn, len(conversation.observations))
        elif conversation.asks_for_parts:
            message = as_parts(turn, self._control.plan_in(conversation))
        else:
            message = as_text(turn)
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason="tool_calls" if tools else "stop")],
            usage=usage_of(input, message),
        )


def as_tool_call(turn: Command | ToOperator | FinalMessage, number: int) -> ChatMessageAssistant:
    """Return a turn in the form of the ordinary agent loop."""
    match turn:
        case Command(text):
            function, arguments = "bash", {"command": text}
        case ToOperator(text):
            function, arguments = "operator", {"message": text}
        case FinalMessage(text):
            function, arguments = "submit", {"answer": text}
    call = ToolCall(id=f"turn-{number}", function=function, arguments=arguments)
    return ChatMessageAssistant(content="", tool_calls=[call], source="generate")


def as_text(turn: Command | ToOperator | FinalMessage) -> ChatMessageAssistant:
    """Return a turn in the form of the agent process in the cell."""
    match turn:
        case Command(text):
            content = f"```sh\n{text}\n```"
        case ToOperator(text):
            content = f"OPERATOR: {text}"
        case FinalMessage(text):
            content = f"DONE: {text}"
    return ChatMessageAssistant(content=content, source="generate")


def as_parts(turn: Command | ToOperator | FinalMessage, plan: Sequence[str]) -> ChatMessageAssistant:
    """Return a turn in the form of the scaffold with five parts."""
    match turn:
        case Command(text):
            action = f"run\n````\n{text}\n````"
        case ToOperator(text):
            action = f"operator\n{text}"
        case FinalMessage(text):
            action = f"finish\n{text}"
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(plan, 1))
    parts = (
        "A script decides what is done.",
        "None.",
        "None.",
        f"\n{steps}",
        action,
    )
    content = "\n".join(f"{name}: {text}" for name, text in zip(PARTS, parts, strict=True))
    return ChatMessageAssistant(content=content, source="generate")


def usage_of(input: Sequence[ChatMessage], answer: ChatMessageAssistant) -> ModelUsage:
    """Return token counts that grow with the texts as those of a model do."""
    read = sum(estimate_tokens(message.text) for message in input)
    written = estimate_tokens(answer.text + "".join(str(call.arguments) for call in answer.tool_calls or []))
    return ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written)


def estimate_tokens(text: str) -> int:
    """Return an estimate of the tokens of an English text of this length."""
    return len(text) // CHARACTERS_PER_TOKEN + 1


def read_options(defaults: dict[str, float], given: dict[str, object], name: str) -> dict[str, float]:
    """Return the settings of a control."""
    options = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            known = f"it takes {', '.join((*defaults, DELAY))}"
            raise UsageError(f"unknown setting '{key}' of control {name}; {known}")
        options[key] = read_number(f"{key} of control {name}", value, 1.0)
    return options


def read_number(what: str, value: object, most: float) -> float:
    """Return the value as a number from 0 to a maximum."""
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise UsageError(f"{what} must be a number from 0 to {most:g}, not '{value}'")
    return number
