"""Watches the trials of one condition from within Inspect: what is not drawn again, and how far the run is."""

from dataclasses import dataclass
from typing import Protocol

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSample, EvalSpec
from inspect_ai.scorer import SampleScore
from inspect_ai.util import EarlyStop
from pydantic import JsonValue

from redline.cell.alarm import RaisedAlarm, run_listener
from redline.run.aborter import RunAborter
from redline.run.extract import (
    CollectedTrials,
    containment_in_doubt,
    cost_of,
    judgement_in,
    outcome_of,
    reason_to_run_again,
    tokens_of,
    trial_id,
)
from redline.run.sample_ends import on_sample_end
from redline.run.scheduler import TrialScheduler
from redline.run.waiting import ModelWait


@dataclass(frozen=True)
class Spent:
    """What a trial took of the models."""

    tokens: int
    """Tokens, read and written."""
    cost: float
    """Dollars; 0 where no price is known."""


class Watcher(Protocol):
    """Whoever wants to know how a run is going."""

    def checked(self, line: str) -> None:
        """A model's server was tried, with this result; or there is a warning about it."""
        ...

    def sealing(self, runtime: str) -> None:
        """The seal of the run's cells begins to be measured."""
        ...

    def sealed(self, summary: str, seconds: float) -> None:
        """It was measured."""
        ...

    def began(self, planned: int, finished: int, cells: int) -> None:
        """The run began: so many trials, so many of them there already, so many cells at once."""
        ...

    def judged(self, trial: str, outcome: str, spent: Spent) -> None:
        """A trial was judged."""
        ...

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """A model has not answered for so many seconds; 0 once it answers again."""
        ...

    def ended(self) -> None:
        """No more trials will be drawn."""
        ...

    def note(self, line: str) -> None:
        """Show a line at once that the user must see while the run goes on."""
        ...


class ConditionWatch:
    """Inspect's early stopping, used to leave out trials that were drawn before, and to end a run at an alarm.

    Inspect draws an errored sample anew when an eval set is resumed. A redrawn trial is a biased trial, so the trials
    that ended in an error or by an alarm are skipped.
    """

    def __init__(  # noqa: PLR0917 - each belongs to the run, none to another
        self,
        model: str,
        earlier: CollectedTrials,
        watcher: Watcher,
        aborter: RunAborter,
        scheduler: TrialScheduler,
        wait: ModelWait,
    ) -> None:
        """Watches one condition.

        Args:
            model: The model, as its trials name it.
            earlier: What earlier runs of the plan left; Inspect takes finished trials from its logs.
            watcher: Who is told about each new trial.
            aborter: What ends the run at an alarm.
            scheduler: The order in which trials start.
            wait: What holds trials back while the model does not answer.
        """
        self._model = model
        self._finished = earlier.kept
        self._not_again = (earlier.errored - earlier.unasked) | set(earlier.alarms)
        self._wait = wait
        self._watcher = watcher
        self._aborter = aborter
        self._scheduler = scheduler

    async def start_task(self, task: EvalSpec, samples: list[Sample], epochs: int) -> str:
        """Names this manager in the log, and has the alarms of this condition's cells told."""
        self._aborter.hold(task.task_id)
        run_listener.set(self._stop)
        on_sample_end(self._sample_ended)
        return "redline"

    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Skips a trial that was drawn before, and every trial once there was an alarm; others wait for their turn."""
        name = trial_id(id, self._model)
        if name in self._not_again:
            return EarlyStop(id=id, epoch=epoch, reason="drawn before, and ended in an error; not drawn again")
        if not self._aborter.ended:
            await self._scheduler.take(name)
        if name not in self._finished and not self._aborter.ended:
            await self._wait.until_answering()
        if self._aborter.ended:
            why = "an alarm ended the run" if self._aborter.pulled else "the user stopped the run"
            return EarlyStop(id=id, epoch=epoch, reason=self._aborter.given_up or why)
        return None

    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """Ends the trial's turn, and the run if a new trial's cell did not stay sealed: then none takes the turn."""
        name = trial_id(id, self._model)
        self._scheduler.end(name)
        if name in self._finished:
            return
        seen = judgement_in(score.score for score in scores.values())
        if seen is not None:
            self._wait.judged(seen.verdict)
        # A cell that was not proved before its trial ran nothing: that trial is lost, and no other one is in doubt.
        if seen is not None and seen.evidence.seal_before is not None and seen.evidence.seal_before.verified:
            what = containment_in_doubt(seen.evidence, seen.verdict)
            if what is not None and not self._aborter.pulled:
                self._end(name, what)

    def _sample_ended(self, sample: EvalSample) -> None:
        """Count the trial as the results will; end the turn of one that Inspect does not complete."""
        name = trial_id(sample.id, self._model)
        again = reason_to_run_again(sample)
        if again is not None or (sample.error is not None and not sample.scores):
            self._scheduler.end(name)
        if again is None and name not in self._finished:
            self._watcher.judged(name, outcome_of(sample), Spent(tokens_of(sample), cost_of(sample) or 0.0))

    def _stop(self, raised: RaisedAlarm) -> None:
        self._end(trial_id(raised.trial, self._model), f"boundary: {raised.kind}: {raised.detail}")

    def _end(self, trial: str, what: str) -> None:
        try:
            self._aborter.pull(trial, what)
        finally:
            self._scheduler.release()

    async def complete_task(self) -> dict[str, JsonValue]:
        """Adds nothing to the log."""
        return {}
