"""The result of the exchange with a model's server before the first trial, as it is kept with a run."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from redline._base import Frozen

ToolCalls = Literal["native", "emulated", "text"]
"""How tool calls pass: parsed by the model's server, written into the prompt and parsed by Inspect, or by redline."""
AskedToolCalls = Literal["auto", "native", "emulated", "text"]
"""How they are to pass; `auto` leaves it to the preflight."""


class PreflightRecord(Frozen):
    """What the exchange with one model's server before the first trial found."""

    model: str
    """The model, as Inspect names it."""
    role: str | None = None
    """The model's role, `judge` or `monitor`; null for a model under test."""
    asked: AskedToolCalls | None = None
    """The setting of `tool_calls`; null where no tool was tried."""
    tool_calls: ToolCalls | None = None
    """How tool calls pass in the trials; null where no tool was tried."""
    call_seen: bool | None = None
    """Whether the model called the tool when it was asked to; null where no tool was tried."""
    name_known: bool | None = None
    """Whether the server lists the model's name; null where it lists none."""
    context: PositiveInt | None = None
    """Context length in tokens, as the server reports it; null where it does not."""
    slots: PositiveInt | None = None
    """Requests that the server answers in parallel, as it reports; null where it does not."""
    answered_as: str | None = None
    """The model's name in the server's answers."""
    calls: NonNegativeInt = 0
    """Requests to the model."""
    seconds: NonNegativeFloat = 0.0
    """Duration."""
    warnings: tuple[str, ...] = ()
    """What a reader of the results must know, a line each."""

    def summary(self) -> str:
        """One line for the terminal."""
        facts = (
            f"tool calls {self.tool_calls}" if self.tool_calls else "answers",
            f"context {self.context}" if self.context else "",
            f"{self.slots} slot{'' if self.slots == 1 else 's'}" if self.slots else "",
        )
        role = f" ({self.role})" if self.role else ""
        return f"model {self.model}{role}: {', '.join(filter(None, facts))}"
