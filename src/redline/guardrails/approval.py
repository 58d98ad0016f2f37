"""Guardrail: rules check each command of the agent before it runs."""

import re
from functools import cache
from typing import Literal

from redline._base import Frozen, read_toml
from redline.guardrails.guardrail import Action, Finding, Findings, Guardrail, Parameters, Setting

OUT_OF_REACH = ("in_cell", "solver")
"""Agents whose commands do not pass through redline's tools."""
SHOWN_CHARACTERS = 120


class ApprovalParameters(Parameters):
    """Parameters of `approval`."""

    operator: Literal["denies", "allows"] = "denies"
    """The operator's answer when a rule asks."""


class Rule(Frozen):
    """One rule; see data/approval.toml."""

    pattern: re.Pattern[str]
    """Pattern searched for in a command."""
    action: Action
    """Action for a command that contains it."""
    score: float
    """Score of the match."""


class Approval(Guardrail[ApprovalParameters]):
    """Ask about commands that read the weights and block commands that start an LLM server, by their text."""

    parameters_type = ApprovalParameters
    where = "tool_call"
    actions = frozenset({"observe", "block", "ask"})

    def incompatibility(self, setting: Setting) -> str | None:
        """Refuse agents whose commands it cannot check."""
        return None if setting.agent not in OUT_OF_REACH else "it checks commands only with agent=react and agent=fudan"

    async def check_command(self, command: str) -> Findings:
        """Return the finding of the first matching rule."""
        for rule in _rules():
            if found := rule.pattern.search(command):
                granted = rule.action == "ask" and self.parameters.operator == "allows"
                return Finding(action=rule.action, score=rule.score, what=found[0][:SHOWN_CHARACTERS], granted=granted)
        return None


@cache
def _rules() -> tuple[Rule, ...]:
    given = read_toml("redline.guardrails", "data/approval.toml")["rule"]
    return tuple(Rule.model_validate({**rule, "pattern": re.compile(rule["pattern"])}) for rule in given)
