"""Watch the trials of one condition from inside Inspect: skip trials that already ran, and report progress."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSample, EvalSpec
from inspect_ai.scorer import SampleScore
from inspect_ai.util import EarlyStop
from pydantic import JsonValue

from redline.cell.alarm import RaisedAlarm, run_listener
from redline.run.aborter import RunAborter
from redline.run.extract import CollectedTrials, reason_to_run_again
from redline.run.judgement import containment_in_doubt, judgement_in, outcome_of
from redline.run.sample_ends import on_sample_end
from redline.run.sample_usage import cost_of, tokens_of
from redline.run.scheduler import TrialScheduler
from redline.run.trial_ids import trial_id
from redline.run.waiting import ModelWait


@dataclass(frozen=True)
class Spent:
    """Model use of one trial."""

    tokens: int
    """Input and output tokens."""
    cost: float
    """Cost in USD; 0 where no price is known."""


class Watcher(Protocol):
    """Receives the progress of a run."""

    def checked(self, line: str) -> None:
        """Handle the result of a model's preflight, or a warning about it."""
        ...

    def sealing(self, runtime: str) -> None:
        """Handle the start of the seal measurement."""
        ...

    def sealed(self, summary: str, seconds: float) -> None:
        """Handle the result of the seal measurement and its duration."""
        ...

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Handle the start of the trials.

        Args:
            planned: Trials in the plan.
            finished: Trials that are already finished.
            cells: Maximum number of concurrent cells.
        """
        ...

    def judged(self, trial: str, outcome: str, spent: Spent) -> None:
        """Handle the outcome of a trial."""
        ...

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Handle a model that has not answered for a number of seconds; 0 when it answers again."""
        ...

    def ended(self) -> None:
        """Handle the end of the trials."""
        ...

    def note(self, line: str) -> None:
        """Show a line to the user at once, while the run continues."""
        ...


class ConditionWatch:
    """Uses Inspect's early stopping to skip trials that already ran, and to end a run at an alarm.

    Inspect runs an errored sample again when an eval set is resumed. Repeating a trial would bias the rate, so trials
    that ended in an error or an alarm are skipped.
    """

    def __init__(
        self,
        model: str,
        earlier: CollectedTrials,
        watcher: Watcher,
        *,
        aborter: RunAborter,
        scheduler: TrialScheduler,
        wait: ModelWait,
    ) -> None:
        """Watch one condition.

        Args:
            model: Label of the model in the IDs of its trials.
            earlier: Trials of earlier starts; Inspect takes finished ones from its logs.
            watcher: Receives each new trial.
            aborter: Ends the run at an alarm.
            scheduler: Starts trials in order.
            wait: Delays trials while the model does not answer.
        """
        self._model = model
        self._finished = earlier.kept
        self._skipped = (earlier.errored - earlier.unanswered) | set(earlier.alarms)
        self._wait = wait
        self._watcher = watcher
        self._aborter = aborter
        self._scheduler = scheduler

    async def start_task(self, task: EvalSpec, samples: list[Sample], epochs: int) -> str:
        """Subscribe to alarms and sample ends of this condition; return this manager's name for the log."""
        self._aborter.add_task(task.task_id)
        run_listener.set(self._on_alarm)
        on_sample_end(self._sample_ended)
        return "redline"

    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Skip a trial that already ran, and every trial after an alarm; otherwise wait for the trial's turn."""
        name = trial_id(id, self._model)
        if name in self._skipped:
            return EarlyStop(id=id, epoch=epoch, reason="already ran and ended in an error; not run again")
        if not self._aborter.ended:
            await self._scheduler.wait_turn(name)
        if name not in self._finished and not self._aborter.ended:
            await self._wait.until_answering()
        if self._aborter.ended:
            why = "an alarm ended the run" if self._aborter.alarmed else "the user stopped the run"
            return EarlyStop(id=id, epoch=epoch, reason=self._aborter.given_up or why)
        return None

    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """End the trial's turn; end the run if the cell of a new trial did not stay sealed."""
        name = trial_id(id, self._model)
        self._scheduler.end(name)
        judgement = judgement_in(score.score for score in scores.values()) if name not in self._finished else None
        _drop_metadata(scores.values())
        if judgement is None:
            return
        evidence, verdict = judgement.evidence, judgement.verdict
        self._wait.judged(verdict)
        # A cell whose seal was not proved before its trial ran nothing: only that trial is lost, no other is in doubt.
        if evidence.seal_before is not None and evidence.seal_before.verified:
            what = containment_in_doubt(evidence, verdict)
            if what is not None and not self._aborter.alarmed:
                self._end_run(name, what)

    def _sample_ended(self, sample: EvalSample) -> None:
        """Report the trial with its outcome in the results; end the turn of a trial that Inspect does not complete."""
        name = trial_id(sample.id, self._model)
        again = reason_to_run_again(sample)
        if again is not None or (sample.error is not None and not sample.scores):
            self._scheduler.end(name)
        if again is None and name not in self._finished:
            self._watcher.judged(name, outcome_of(sample), Spent(tokens_of(sample), cost_of(sample) or 0.0))

    def _on_alarm(self, raised: RaisedAlarm) -> None:
        self._end_run(trial_id(raised.trial, self._model), f"boundary: {raised.kind}: {raised.detail}")

    def _end_run(self, trial: str, what: str) -> None:
        try:
            self._aborter.alarm(trial, what)
        finally:
            self._scheduler.release()

    async def complete_task(self) -> dict[str, JsonValue]:
        """Add nothing to the log."""
        return {}


def _drop_metadata(scores: Iterable[SampleScore]) -> None:
    """Drop the evidence from scores that are in the log.

    Inspect keeps the scores of every sample until the end, and writes them again into the log's reductions and the
    folder's `logs.json`.
    """
    for score in scores:
        score.score.metadata = None
