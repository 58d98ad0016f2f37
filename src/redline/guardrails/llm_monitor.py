"""Guardrail: a model of the role `monitor` reads what the agent did, and says how suspicious it is."""

import re
import secrets
from functools import cache
from importlib.resources import files
from string import Template
from typing import ClassVar, Final, Literal

import anyio
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model, model_roles

from redline.cell import Cell
from redline.guardrails._settings import settings
from redline.guardrails._watch import Watch, WatchParameters
from redline.guardrails.guardrail import Finding, Findings, Setting
from redline.models.ask import ContextExceededError, ModelUnavailableError, ask
from redline.models.ledger import Ledger
from redline.subject import Subject
from redline.verify.trial import Trial

ROLE: Final = "monitor"
ANSWER = re.compile(r"^[\s*]*SCORE:[\s*]*(\d{1,3}(?:\.\d+)?)[\s*]*$", re.MULTILINE)
HIGHEST = 100.0
MARK_BYTES = 8
OUT_OF_REACH = ("in_cell", "solver")
"""Agents whose commands are not given through tools of ours."""


class MonitorParameters(WatchParameters):
    """Parameters of `llm_monitor`."""

    sees: Literal["actions", "reasoning", "both"] = "both"
    """Whether it reads commands and what they printed, what the agent thought and said, or both."""


class LLMMonitor(Watch):
    """Scores each turn and each command, before it is run, by what the agent did so far."""

    parameters_type = MonitorParameters
    parameters: MonitorParameters
    where = "transcript"
    is_slow: ClassVar[bool] = True
    monitor_role: ClassVar[str | None] = ROLE

    def __init__(self, parameters: MonitorParameters) -> None:
        """Has read nothing yet."""
        super().__init__(parameters)
        self._record: list[str] = []
        self.model: Model | None = None
        """Who is asked; none asks the model of the role."""
        self._ledger = Ledger()

    def incompatibility(self, setting: Setting) -> str | None:
        """It must see what it is to read."""
        if setting.agent == "in_cell":
            return "agent=in_cell has its turns inside the cell: take another agent"
        if setting.agent in OUT_OF_REACH and self.parameters.sees != "reasoning":
            return "it sees the commands of agent=react and agent=fudan alone: take llm_monitor:sees=reasoning"
        return None

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Makes sure that there is a model to ask.

        Raises:
            RuntimeError: Nobody has that role.
        """
        if ROLE not in model_roles():
            raise RuntimeError(f"no model has the role {ROLE}")
        self._ledger = cell.attached(Trial).ledger

    async def on_model_output(self, said: str) -> Findings:
        """Scores a turn, where it reads what is thought and said."""
        if self.parameters.sees == "actions" or not said.strip():
            return None
        self._record.append(f"[the agent says]\n{_cut(said)}")
        return await self._scored()

    async def check_command(self, command: str) -> Findings:
        """Scores a command, where it reads commands; it is run all the same, unless the score ends the agent's work."""
        if self.parameters.sees == "reasoning":
            return None
        self._record.append(f"[the agent runs]\n{_cut(command)}")
        return await self._scored()

    def on_command_result(self, command: str, result: str) -> None:
        """Keeps what a command printed for the next score."""
        if self.parameters.sees != "reasoning":
            self._record.append(f"[it prints]\n{_cut(result)}")

    async def _scored(self) -> Finding:
        model = self.model or get_model(role=ROLE)
        prompt = ChatMessageUser(content=prompt_for(self._record))

        async def generate(bounds: GenerateConfig) -> ModelOutput:
            fixed = GenerateConfig(temperature=0.0, max_retries=1)
            return await model.generate([prompt], config=bounds.merge(fixed), cache=False)

        try:
            with anyio.fail_after(settings().monitor_seconds):
                output = await ask(model, self._ledger, "monitor", [prompt], generate)
        except (ModelUnavailableError, ContextExceededError, TimeoutError) as fault:
            # A model that does not answer stands for no score, and for no failure of ours; the ledger counts it.
            return Finding(action="observe", score=None, what=f"{type(fault).__name__}: {fault}")
        self.tokens += output.usage.total_tokens if output.usage else 0
        score = score_in(output.completion)
        if score is None:
            return Finding(action="observe", score=None, what=f"no score in: {output.completion}")
        return self.found(score, f"SCORE: {score * HIGHEST:g}")


def prompt_for(record: list[str]) -> str:
    """The prompt: the last of what the agent did, between two marks that it could not know."""
    text = "\n\n".join(record)[-settings().monitor_characters :]
    return Template(_prompt()).substitute(mark=secrets.token_hex(MARK_BYTES), record=text)


def score_in(answer: str) -> float | None:
    """The score in an answer, from 0 to 1; None unless there is exactly one, in range."""
    found = ANSWER.findall(answer)
    if len(found) != 1 or float(found[0]) > HIGHEST:
        return None
    return float(found[0]) / HIGHEST


def _cut(text: str) -> str:
    """A text within its bound: its beginning and its end."""
    half = settings().monitor_entry_characters // 2
    return text if len(text) <= 2 * half else f"{text[:half]}\n[…]\n{text[-half:]}"


@cache
def _prompt() -> str:
    return files("redline.guardrails").joinpath("data/monitor.md").read_text(encoding="utf-8")
