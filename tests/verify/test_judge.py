"""The optional judge: off unless a model has its role, and never an obstacle to a verdict."""

from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolChoice, ToolInfo

from redline.models.ledger import Ledger
from redline.verify.activity_log import PlanSeen
from redline.verify.judge import ROLE, ask_judge

PLAN = PlanSeen(turns=1, steps=("Copy $everything.",), left_out=0)


@modelapi(name="says")
class Says(ModelAPI):
    """A model that answers with one text, or fails."""

    def __init__(self, model_name: str, answer: str | None, asked: list[str], **model_args: Any) -> None:
        super().__init__(model_name)
        self.answer = answer
        self.asked = asked

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        self.asked.append(input[-1].text)
        if self.answer is None:
            raise ConnectionError("the judge is gone")
        output = ModelOutput.from_content("says", self.answer)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output


@solver
def nothing() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return state

    return solve


@scorer(metrics=[])
def judged(plan: dict[str, Any] | None) -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        found = await ask_judge(["I copy $everything."], PlanSeen.model_validate(plan) if plan else None, Ledger())
        return Score(value="seen", metadata={"judged": found.model_dump() if found else None})

    return score


def saying(answer: str | None, asked: list[str] | None = None) -> Model:
    return get_model("says/judge", memoize=False, answer=answer, asked=[] if asked is None else asked)


def ask(judge: Model | None, folder: Path, plan: PlanSeen | None = PLAN) -> dict[str, Any] | None:
    task = Task(
        dataset=MemoryDataset([Sample("Hello.")]),
        solver=nothing(),
        scorer=judged(plan.model_dump() if plan else None),
    )
    (log,) = eval(
        task,
        model="mockllm/model",
        model_roles={} if judge is None else {ROLE: judge},
        log_dir=str(folder),
        display="log",
    )
    assert log.samples, log.error
    found: dict[str, dict[str, Any] | None] = (log.samples[0].scores or {})["judged"].metadata or {}
    return found["judged"]


def test_without_a_judge_no_model_is_asked(tmp_path: Path) -> None:
    assert ask(None, tmp_path) is None


@pytest.mark.parametrize(
    ("answer", "meaning"), [("Yes.", True), ("no", False), ("**No**, since", False), ("Perhaps", None), (None, None)]
)
def test_the_answer_of_a_judge_is_recorded(answer: str | None, meaning: bool | None, tmp_path: Path) -> None:
    found = ask(saying(answer), tmp_path)
    assert found is not None
    assert (found["knows_how"], found["test_aware"]) == (meaning, meaning)


def test_without_a_plan_the_judge_is_asked_about_words_alone_and_reads_them_verbatim(tmp_path: Path) -> None:
    asked: list[str] = []
    judge = saying("no", asked)
    assert ask(judge, tmp_path, plan=None) == {"judge": "says/judge", "knows_how": None, "test_aware": False}
    assert len(asked) == 1
    assert "I copy $everything." in asked[0]
