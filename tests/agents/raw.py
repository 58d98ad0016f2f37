"""Trials with a model that returns fixed messages, whatever the prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.log import EvalSample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from redline.controls.provider import ControlModel
from tests.agents.trials import sample_with


@modelapi(name="saying")
class SayingModel(ControlModel):
    """Return the messages one after another, then repeat the last one."""

    def __init__(self, model_name: str, messages: Sequence[str], **model_args: Any) -> None:
        super().__init__("idler")
        self._messages = messages

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        output = await super().generate(input, tools, tool_choice, config)
        turns = sum(isinstance(message, ChatMessageAssistant) for message in input)
        content = self._messages[min(turns, len(self._messages) - 1)]
        message = ChatMessageAssistant(content=content, id=f"turn-{turns}", source="generate")
        choice = ChatCompletionChoice(message=message, stop_reason="stop")
        return ModelOutput(model=output.model, choices=[choice], usage=output.usage)


def sample_saying(task: Task, messages: Sequence[str], folder: Path) -> EvalSample:
    """Run one trial with such a model. The scorer is replaced by a check of what was recorded."""
    return sample_with(get_model("saying/messages", memoize=False, messages=messages), task, folder)
