"""The Inspect model provider `redline/NAME`: a control in the place of a model."""

from abc import abstractmethod
from collections.abc import Sequence

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
from redline.controls.control import Command, LastWords, ToOperator
from redline.controls.scene import Scene

CHARACTERS_A_TOKEN = 4
MAX_CONNECTIONS = 64


class Scripted(ModelAPI):
    """What a script has in the place of a model: settings, and tokens that are estimated."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: object,
    ) -> None:
        """Finds the script and reads its settings.

        Raises:
            UsageError: There is no such script, or it has no such setting.
        """
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self._options = read_options(self.settings_of(model_name), model_args, model_name)

    @abstractmethod
    def settings_of(self, name: str) -> dict[str, float]:
        """The settings of a script, and their defaults.

        Raises:
            UsageError: There is none of that name.
        """

    async def count_text_tokens(self, text: str) -> int:
        """Estimates tokens by length; Inspect's own estimate would download a tokenizer."""
        return estimate_tokens(text)

    def max_connections(self) -> int:
        """Lets every trial have its turn at once: a script waits for nobody."""
        return MAX_CONNECTIONS


class ControlModel(Scripted):
    """Answers as the control of the model's name would."""

    def settings_of(self, name: str) -> dict[str, float]:
        """Finds the control."""
        self._control = find_control(name)
        return dict(self._control.options)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Takes the control's next turn, in the manner of the loop that asks: a tool call, or text with a command."""
        scene = Scene.read(input, self._options)
        turn = self._control.next_turn(scene)
        if tools:
            message = as_tool_call(turn, len(scene.observations))
        elif scene.asks_for_parts:
            message = as_parts(turn, self._control.plan_in(scene))
        else:
            message = as_text(turn)
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason="tool_calls" if tools else "stop")],
            usage=usage_of(input, message),
        )


def as_tool_call(turn: Command | ToOperator | LastWords, number: int) -> ChatMessageAssistant:
    """A turn as the ordinary agent loop wants it."""
    match turn:
        case Command(text):
            function, arguments = "bash", {"command": text}
        case ToOperator(text):
            function, arguments = "operator", {"message": text}
        case LastWords(text):
            function, arguments = "submit", {"answer": text}
    call = ToolCall(id=f"turn-{number}", function=function, arguments=arguments)
    return ChatMessageAssistant(content="", tool_calls=[call], source="generate")


def as_text(turn: Command | ToOperator | LastWords) -> ChatMessageAssistant:
    """A turn as the agent process in the cell wants it."""
    match turn:
        case Command(text):
            said = f"```sh\n{text}\n```"
        case ToOperator(text):
            said = f"OPERATOR: {text}"
        case LastWords(text):
            said = f"DONE: {text}"
    return ChatMessageAssistant(content=said, source="generate")


def as_parts(turn: Command | ToOperator | LastWords, plan: Sequence[str]) -> ChatMessageAssistant:
    """A turn as the scaffold of five parts wants it."""
    match turn:
        case Command(text):
            action = f"run\n````\n{text}\n````"
        case ToOperator(text):
            action = f"operator\n{text}"
        case LastWords(text):
            action = f"finish\n{text}"
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(plan, 1))
    parts = (
        "A script decides what is done.",
        "None.",
        "None.",
        f"\n{steps}",
        action,
    )
    said = "\n".join(f"{name}: {text}" for name, text in zip(PARTS, parts, strict=True))
    return ChatMessageAssistant(content=said, source="generate")


def usage_of(input: Sequence[ChatMessage], answer: ChatMessageAssistant) -> ModelUsage:
    """Token counts that grow with the texts as a model's would."""
    read = sum(estimate_tokens(message.text) for message in input)
    written = estimate_tokens(answer.text + "".join(str(call.arguments) for call in answer.tool_calls or []))
    return ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written)


def estimate_tokens(text: str) -> int:
    """About as many tokens as English text of this length has."""
    return len(text) // CHARACTERS_A_TOKEN + 1


def read_options(defaults: dict[str, float], given: dict[str, object], name: str) -> dict[str, float]:
    """The settings of a control."""
    options = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            known = f"it takes {', '.join(defaults)}" if defaults else "it takes none"
            raise UsageError(f"unknown setting '{key}' of control {name}; {known}")
        options[key] = read_probability(f"{key} of control {name}", value)
    return options


def read_probability(what: str, value: object) -> float:
    """A number from 0 to 1."""
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UsageError(f"{what} must be a number from 0 to 1, not '{value}'")
    return number
