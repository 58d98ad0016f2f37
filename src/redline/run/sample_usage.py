"""Tokens and cost of a trial, separated into the model under test and the other models."""

from inspect_ai.log import EvalSample

from redline.guardrails.llm_monitor import ROLE as MONITOR
from redline.results import RoleUse
from redline.verify.judge import ROLE as JUDGE

ROLES = (JUDGE, MONITOR)
"""Roles of models other than the one under test."""


def tokens_of(sample: EvalSample) -> int:
    """Return the tokens of the model under test, without those of a judge or monitor."""
    others = sum(usage.total_tokens for role, usage in sample.role_usage.items() if role in ROLES)
    return max(0, sum(usage.total_tokens for usage in sample.model_usage.values()) - others)


def cost_of(sample: EvalSample) -> float | None:
    """Return the cost of the model under test in USD; None unless the price of every answer is known."""
    roles = [usage for role, usage in sample.role_usage.items() if role in ROLES]
    costs = [usage.total_cost for usage in (*sample.model_usage.values(), *roles)]
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) != len(costs):
        return None
    return max(0.0, sum(known[: len(sample.model_usage)]) - sum(known[len(sample.model_usage) :]))


def role_use(sample: EvalSample) -> dict[str, RoleUse]:
    """Return the use of other models by role."""
    return {
        role: RoleUse(tokens=usage.total_tokens, cost=usage.total_cost)
        for role, usage in sorted(sample.role_usage.items())
        if role in ROLES
    }
