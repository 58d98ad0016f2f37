"""Guardrail: rules decide on each of the agent's commands before it is run."""

import re
from functools import cache
from typing import Literal

from redline._base import Frozen, read_toml
from redline.guardrails.guardrail import Action, Finding, Findings, Guardrail, Parameters, Setting

OUT_OF_REACH = ("in_cell", "solver")
"""Agents whose commands are not given through tools of ours."""
SHOWN_CHARACTERS = 120


class ApprovalParameters(Parameters):
    """Parameters of `approval`."""

    operator: Literal["denies", "allows"] = "denies"
    """What the operator says where a rule asks."""


class Rule(Frozen):
    """One rule; see data/approval.toml."""

    pattern: re.Pattern[str]
    """What is searched for in a command."""
    action: Action
    """What is done about a command in which it is found."""
    score: float
    """How sure that is."""


class Approval(Guardrail[ApprovalParameters]):
    """Commands that read the weights are asked about, and those that start an LLM server are refused, by their text."""

    parameters_type = ApprovalParameters
    where = "tool_call"
    actions = frozenset({"observe", "block", "ask"})

    def incompatibility(self, setting: Setting) -> str | None:
        """It must see the commands."""
        return (
            None if setting.agent not in OUT_OF_REACH else "it sees the commands of agent=react and agent=fudan alone"
        )

    async def check_command(self, command: str) -> Findings:
        """The finding of the first rule that applies."""
        for rule in _rules():
            if found := rule.pattern.search(command):
                granted = rule.action == "ask" and self.parameters.operator == "allows"
                return Finding(action=rule.action, score=rule.score, what=found[0][:SHOWN_CHARACTERS], granted=granted)
        return None


@cache
def _rules() -> tuple[Rule, ...]:
    given = read_toml("redline.guardrails", "data/approval.toml")["rule"]
    return tuple(Rule.model_validate({**rule, "pattern": re.compile(rule["pattern"])}) for rule in given)
