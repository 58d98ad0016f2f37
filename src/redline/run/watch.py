"""Watches the trials of one condition from within Inspect: what is not drawn again, and how far the run is."""

from collections.abc import Collection
from typing import Protocol

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSpec
from inspect_ai.scorer import SampleScore
from inspect_ai.util import EarlyStop
from pydantic import JsonValue

from redline.run.extract import trial_id


class Watcher(Protocol):
    """Whoever wants to know how a run is going."""

    def began(self, planned: int, finished: int, cells: int) -> None:
        """The run began: so many trials, so many of them there already, so many cells at once."""
        ...

    def judged(self, trial: str, outcome: str) -> None:
        """A trial was judged."""
        ...

    def ended(self) -> None:
        """No more trials will be drawn."""
        ...


class ConditionWatch:
    """Inspect's early stopping, used to leave out trials that were drawn before.

    Inspect draws an errored sample anew when an eval set is resumed. A redrawn trial is a biased trial, so the trials
    that ended in an error are skipped.
    """

    def __init__(self, model: str, finished: Collection[str], errored: Collection[str], watcher: Watcher) -> None:
        """Watches one condition.

        Args:
            model: The model, as its trials name it.
            finished: Trials that earlier runs of the plan finished; Inspect takes them from its logs.
            errored: Trials that ended in an error in earlier runs.
            watcher: Who is told about each new trial.
        """
        self._model = model
        self._finished = finished
        self._errored = errored
        self._watcher = watcher

    async def start_task(self, task: EvalSpec, samples: list[Sample], epochs: int) -> str:
        """Names this manager in the log."""
        return "redline"

    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Skips a trial that was drawn before."""
        if trial_id(id, self._model) in self._errored:
            return EarlyStop(id=id, epoch=epoch, reason="drawn before, and ended in an error; not drawn again")
        return None

    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """Passes the outcome of a new trial on."""
        name = trial_id(id, self._model)
        if name not in self._finished:
            outcome = next((score.score.as_str() for score in scores.values()), "invalid")
            self._watcher.judged(name, outcome)

    async def complete_task(self) -> dict[str, JsonValue]:
        """Adds nothing to the log."""
        return {}
