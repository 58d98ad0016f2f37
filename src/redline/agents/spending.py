"""Tokens and costs of model calls, by generation."""

from inspect_ai.model import ModelOutput

from redline.verify.trial import Trial


def record_spending(trial: Trial, generation: int, output: ModelOutput) -> None:
    """Record the tokens and the cost of one answer of the model under test."""
    usage = output.usage
    trial.activity_log.add_spending(generation, usage.total_tokens if usage else 0, usage.total_cost if usage else None)
