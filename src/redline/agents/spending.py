"""What the model's calls cost, by the generation that they were for."""

from inspect_ai.model import ModelOutput

from redline.verify.trial import Trial


def note_spending(trial: Trial, generation: int, output: ModelOutput) -> None:
    """Notes one answer of the model under test."""
    usage = output.usage
    trial.activity_log.add_spending(generation, usage.total_tokens if usage else 0, usage.total_cost if usage else None)
