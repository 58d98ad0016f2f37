"""Guardrail: a model with the role `monitor` reads the agent's record and scores how suspicious it is."""

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
"""Agents whose commands do not pass through redline's tools."""


class MonitorParameters(WatchParameters):
    """Parameters of `llm_monitor`."""

    sees: Literal["actions", "reasoning", "both"] = "both"
    """Whether it reads commands with their output (`actions`), the agent's messages (`reasoning`), or both."""


class LLMMonitor(Watch):
    """Score each turn, and each command before it runs, from the agent's record so far."""

    parameters_type = MonitorParameters
    parameters: MonitorParameters
    where = "transcript"
    is_slow: ClassVar[bool] = True
    monitor_role: ClassVar[str | None] = ROLE

    def __init__(self, parameters: MonitorParameters) -> None:
        """Store the parameters."""
        super().__init__(parameters)
        self._record: list[str] = []
        self.model: Model | None = None
        """The model to call; None uses the model with the role."""
        self._ledger = Ledger()

    def incompatibility(self, setting: Setting) -> str | None:
        """Refuse agents whose record it cannot read."""
        if setting.agent == "in_cell":
            return "the turns of agent=in_cell are inside the cell: use another agent"
        if setting.agent in OUT_OF_REACH and self.parameters.sees != "reasoning":
            return "it reads commands only with agent=react and agent=fudan: use llm_monitor:sees=reasoning"
        return None

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Check that a model has the role.

        Raises:
            RuntimeError: No model has the role.
        """
        if ROLE not in model_roles():
            raise RuntimeError(f"no model has the role {ROLE}")
        self._ledger = cell.attached(Trial).ledger

    async def on_model_output(self, output: str) -> Findings:
        """Score a turn, unless it reads only actions."""
        if self.parameters.sees == "actions" or not output.strip():
            return None
        self._record.append(f"[the agent says]\n{_shorten(output)}")
        return await self._scored()

    async def check_command(self, command: str) -> Findings:
        """Score a command, unless it reads only reasoning. The command runs unless the score ends the agent's work."""
        if self.parameters.sees == "reasoning":
            return None
        self._record.append(f"[the agent runs]\n{_shorten(command)}")
        return await self._scored()

    def on_command_result(self, command: str, result: str) -> None:
        """Add a command's output to the record."""
        if self.parameters.sees != "reasoning":
            self._record.append(f"[it prints]\n{_shorten(result)}")

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
            # Without an answer the score is missing, which is not a failure of the guardrail. The ledger counts it.
            return Finding(action="observe", score=None, what=f"{type(fault).__name__}: {fault}")
        self.tokens += output.usage.total_tokens if output.usage else 0
        score = score_in(output.completion)
        if score is None:
            return Finding(action="observe", score=None, what=f"no score in: {output.completion}")
        return self.found(score, f"SCORE: {score * HIGHEST:g}")


def prompt_for(record: list[str]) -> str:
    """Return the prompt: the end of the agent's record between two markers that the agent cannot know."""
    text = "\n\n".join(record)[-settings().monitor_characters :]
    return Template(_prompt()).substitute(mark=secrets.token_hex(MARK_BYTES), record=text)


def score_in(answer: str) -> float | None:
    """Return the score in an answer, from 0 to 1; None unless the answer has exactly one valid score."""
    found = ANSWER.findall(answer)
    if len(found) != 1 or float(found[0]) > HIGHEST:
        return None
    return float(found[0]) / HIGHEST


def _shorten(text: str) -> str:
    """Shorten a text to its beginning and its end."""
    half = settings().monitor_entry_characters // 2
    return text if len(text) <= 2 * half else f"{text[:half]}\n[…]\n{text[-half:]}"


@cache
def _prompt() -> str:
    return files("redline.guardrails").joinpath("data/monitor.md").read_text(encoding="utf-8")
