"""Reasons for the end of an agent's loop."""

from typing import Literal

EndReason = Literal[
    "submit",  # the agent reported that it was done
    "silent",  # the model stopped calling tools
    "length",  # the model stopped calling tools, and its last answer was truncated at the token limit
    "message_limit",
    "time_limit",
    "context",  # the conversation no longer fits the model's context
    "model_unavailable",  # the model no longer answered
    "filtered",  # the provider withheld the answers
    "gate",  # generation 0's engine no longer proved its weights
    "deadline",  # the supervisor shut generation 0 down
    "guardrail",  # a guardrail killed generation 0, or failed in a way that makes the trial invalid
    "boundary",  # the alarm stopped the cell
    "interrupted",  # an outer cause ended the loop: a limit of the sample, or the user
    "error",
]


STOP_REASONS: dict[str, EndReason] = {"content_filter": "filtered"}
"""Stop reasons after which a loop cannot continue."""

SILENT: dict[str, EndReason] = {"max_tokens": "length"}
"""End reason of a loop of silent turns, by the stop reason of the last one; `silent` for any other."""


class UnansweredError(Exception):
    """Raised after the loop of a trial in which the model answered no turn, so that a resumed run repeats the trial."""


class LoopEndedError(Exception):
    """Raised within an agent's loop to end it for a reason that is not an error."""

    def __init__(self, reason: EndReason) -> None:
        """Store the reason."""
        super().__init__(reason)
        self.reason: EndReason = reason
