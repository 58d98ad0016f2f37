"""The result of a preflight, as stored with a run."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from redline._base import Frozen

ToolCalls = Literal["native", "emulated", "text"]
"""Mode of tool calls: parsed by the model's server (`native`), by Inspect (`emulated`), or by redline (`text`)."""
AskedToolCalls = Literal["auto", "native", "emulated", "text"]
"""Requested mode of tool calls; `auto` leaves the choice to the preflight."""


class PreflightRecord(Frozen):
    """Result of the exchange with one model's server before the first trial."""

    model: str
    """The model, as Inspect names it."""
    role: str | None = None
    """The model's role, `judge` or `monitor`; null for a model under test."""
    asked: AskedToolCalls | None = None
    """The setting of `tool_calls`; null if no tool was tested."""
    tool_calls: ToolCalls | None = None
    """Mode of tool calls in the trials; null if no tool was tested."""
    call_seen: bool | None = None
    """Whether the model called the tool when asked to; null if no tool was tested."""
    name_known: bool | None = None
    """Whether the server lists the model's name; null if it lists no models."""
    context: PositiveInt | None = None
    """Context length in tokens as reported by the server; null if not reported."""
    slots: PositiveInt | None = None
    """Requests answered in parallel as reported by the server; null if not reported."""
    answered_as: str | None = None
    """The model's name in the server's answers."""
    calls: NonNegativeInt = 0
    """Number of requests to the model."""
    seconds: NonNegativeFloat = 0.0
    """Duration, in seconds."""
    warnings: tuple[str, ...] = ()
    """Warnings that affect the interpretation of the results, one line each."""

    def summary(self) -> str:
        """Return one line for the terminal."""
        facts = (
            f"tool calls {self.tool_calls}" if self.tool_calls else "answers",
            f"context {self.context}" if self.context else "",
            f"{self.slots} slot{'' if self.slots == 1 else 's'}" if self.slots else "",
        )
        role = f" ({self.role})" if self.role else ""
        return f"model {self.model}{role}: {', '.join(filter(None, facts))}"
