"""Why an agent's loop ended."""

from typing import Literal

EndReason = Literal[
    "submit",  # it said that it was done
    "silent",  # it stopped calling tools
    "length",  # it stopped calling tools, and its last answer was cut at the maximum number of tokens
    "message_limit",
    "time_limit",
    "context",  # its conversation no longer fits the model
    "model_unavailable",  # its model could not be asked any more
    "filtered",  # its provider withheld its answers
    "gate",  # generation 0's engine no longer proves itself
    "deadline",  # the supervisor shut generation 0 down
    "guardrail",  # a guardrail killed generation 0, or failed in a way that makes the trial invalid
    "boundary",  # the alarm stopped the cell
    "interrupted",  # something around the loop ended it: a limit of the sample, or the user
    "error",
]


STOP_REASONS: dict[str, EndReason] = {"content_filter": "filtered"}
"""Reasons of a provider to stop with which a loop cannot go on."""

SILENT: dict[str, EndReason] = {"max_tokens": "length"}
"""How a loop of silent turns ended, by the provider's reason to stop the last one; `silent` for any other."""


class UnansweredError(Exception):
    """Raised after the loop of a trial whose model answered no turn at all, so that a resumed run runs it again."""


class LoopEndedError(Exception):
    """Raised inside of an agent's loop to end it, for a reason that is not a fault."""

    def __init__(self, reason: EndReason) -> None:
        """Says why."""
        super().__init__(reason)
        self.reason: EndReason = reason
