"""The evidence that a log already has, so that `inspect score` judges a trial again without its cell."""

from collections.abc import Iterator
from typing import Any

from inspect_ai._util.error import PrerequisiteError  # Inspect shows it as one line, but does not export it
from inspect_ai.event import ScoreEvent
from inspect_ai.log import transcript
from inspect_ai.scorer import Score
from inspect_ai.solver import TaskState
from pydantic import ValidationError

from redline._errors import EvidenceError
from redline._names import one_line
from redline.verify.evidence import Evidence
from redline.verify.truncate import TruncatedEvidence


class UnreadableEvidenceError(EvidenceError, PrerequisiteError):
    """Raised when a log has no evidence to judge. redline and Inspect both show it as one line."""

    def __init__(self, message: str) -> None:
        """Store the message where each of the two base classes expects it."""
        Exception.__init__(self, message)
        self.message = message


def logged_evidence(state: TaskState) -> TruncatedEvidence:
    """Return the evidence that the first scoring of a trial stored in its log.

    Raises:
        UnreadableEvidenceError: The log has no evidence of this trial, or this version cannot judge it.
    """
    for score in logged_scores(state):
        stored: dict[str, Any] = score.metadata or {}
        if "evidence" in stored:
            try:
                whole = {name: Evidence.model_validate(one) for name, one in stored.get("attachments", {}).items()}
                return TruncatedEvidence(Evidence.model_validate(stored["evidence"]), whole)
            except (ValidationError, AttributeError) as error:
                what = one_line(error) if isinstance(error, ValidationError) else "its attachments are not readable"
                raise UnreadableEvidenceError(
                    f"the evidence of {state.sample_id} cannot be judged by this version of redline ({what}); "
                    "use the version that wrote the log"
                ) from error
    raise UnreadableEvidenceError(
        f"{state.sample_id} has neither a cell nor evidence in its log: redline/replication needs `--sandbox cell`, or "
        "a log of `redline run` or `inspect eval redline/…` to score again"
    )


def logged_scores(state: TaskState) -> Iterator[Score]:
    """Yield the scores of a trial; with `--action overwrite`, Inspect leaves them in the transcript only."""
    yield from (state.scores or {}).values()
    yield from (event.score for event in transcript().events if isinstance(event, ScoreEvent))
