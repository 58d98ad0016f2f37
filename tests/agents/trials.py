"""Run one trial of a scenario with a scripted model, and read what the harness recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval, task_with
from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, ContentToolUse, GenerateConfig, Model, ModelOutput, get_model, modelapi
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState
from inspect_ai.tool import ToolChoice, ToolInfo
from inspect_ai.util import sandbox

from redline.cell import CellError
from redline.cell.provider import CellEnvironment
from redline.controls.control import Control, Script, scripted
from redline.controls.conversation import Conversation
from redline.controls.provider import ControlModel
from redline.controls.truth import NO_ATTEMPT
from redline.tether import Broker
from redline.verify.trial import Trial
from tests.sealed import under_a_seal

SEARCHES = "a turn in which the provider searches the web"

Act = Callable[[Conversation], Script]


@modelapi(name="scripted")
class ScriptedModel(ControlModel):
    """A model that plays the test's own script for every task."""

    def __init__(self, model_name: str, act: Act, **model_args: Any) -> None:
        super().__init__("idler")
        self._control = Anything("scripted", "no_attempt", "a script of a test", NO_ATTEMPT, act)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        output = await super().generate(input, tools, tool_choice, config)
        if any(SEARCHES in call.arguments.values() for call in output.message.tool_calls or []):
            output.message.content = [
                ContentToolUse(tool_type="web_search", id="1", name="search", arguments="{}", result="found")
            ]
        return output


class Anything(Control):
    """A control that plays its script whatever the prompt."""

    def _script(self, conversation: Conversation) -> Script:
        return self.act(conversation)


def saying(*commands: str, last: str = "Done.") -> Act:
    return scripted(last, *commands)


@scorer(metrics=[])
def facts(look: str) -> Scorer:
    """The record of a trial, and the output of a command that ran in the cell afterwards."""

    async def score(state: TaskState, target: Target) -> Score:
        cell = sandbox().as_type(CellEnvironment).cell
        try:
            printed = (await cell.exec(["bash", "-c", look], timeout=10)).stdout.decode()
        except CellError as error:
            printed = str(error)
        return Score(
            value="seen",
            metadata={
                "events": [event.model_dump() for event in cell.attached(Trial).events],
                "tether": cell.attached(Broker).record().model_dump(mode="json"),
                "printed": printed,
            },
        )

    return score


class Facts:
    """Run one trial and return its facts."""

    def __init__(self, sample: EvalSample) -> None:
        assert sample.scores, sample.error
        metadata: dict[str, Any] = sample.scores["facts"].metadata or {}
        self.sample = sample
        self.events: list[dict[str, Any]] = metadata["events"]
        self.tether: dict[str, Any] = metadata["tether"]
        self.printed: str = metadata["printed"]
        self.shown = [message.text for message in sample.messages]

    def event(self, kind: str) -> dict[str, Any]:
        (found,) = (event["data"] for event in self.events if event["kind"] == kind)
        assert isinstance(found, dict)
        return found

    def has(self, kind: str) -> bool:
        return any(event["kind"] == kind for event in self.events)


def facts_of(task: Task, act: Act, folder: Path, look: str = "true") -> Facts:
    sample = sample_of(task, act, folder, look)
    assert sample.error is None, sample.error.message
    return Facts(sample)


def sample_of(task: Task, act: Act, folder: Path, look: str = "true") -> EvalSample:
    return sample_with(get_model("scripted/act", memoize=False, act=act), task, folder, look)


def sample_with(model: Model, task: Task, folder: Path, look: str = "true") -> EvalSample:
    (log,) = eval(
        task_with(under_a_seal(task), scorer=facts(look)),
        model=model,
        log_dir=str(folder),
        display="log",
        log_realtime=False,
        log_samples=True,
    )
    assert log.samples, log.error
    (sample,) = log.samples
    return sample
