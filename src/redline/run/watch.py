"""Watches the trials of one condition from within Inspect: what is not drawn again, and how far the run is."""

from dataclasses import dataclass
from typing import Protocol

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSpec
from inspect_ai.scorer import SampleScore
from inspect_ai.util import EarlyStop, sample_limits
from pydantic import JsonValue

from redline.cell.alarm import Raised, bell
from redline.run.brake import Brake
from redline.run.extract import Harvest, containment_in_doubt, judgement_in, trial_id
from redline.run.turns import Turns


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

    def ended(self) -> None:
        """No more trials will be drawn."""
        ...


class ConditionWatch:
    """Inspect's early stopping, used to leave out trials that were drawn before, and to end a run at an alarm.

    Inspect draws an errored sample anew when an eval set is resumed. A redrawn trial is a biased trial, so the trials
    that ended in an error or by an alarm are skipped.
    """

    def __init__(self, model: str, earlier: Harvest, watcher: Watcher, brake: Brake, turns: Turns) -> None:
        """Watches one condition.

        Args:
            model: The model, as its trials name it.
            earlier: What earlier runs of the plan left; Inspect takes finished trials from its logs.
            watcher: Who is told about each new trial.
            brake: What ends the run at an alarm.
            turns: The order in which trials start.
        """
        self._model = model
        self._finished = set(earlier.trials)
        self._not_again = earlier.errored | set(earlier.alarms)
        self._watcher = watcher
        self._brake = brake
        self._turns = turns

    async def start_task(self, task: EvalSpec, samples: list[Sample], epochs: int) -> str:
        """Names this manager in the log, and has the alarms of this condition's cells told."""
        self._brake.hold(task.task_id)
        bell.set(self._stop)
        return "redline"

    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Skips a trial that was drawn before, and every trial once there was an alarm; others wait for their turn."""
        name = trial_id(id, self._model)
        if name in self._not_again:
            return EarlyStop(id=id, epoch=epoch, reason="drawn before, and ended in an error; not drawn again")
        if not self._brake.pulled:
            await self._turns.take(name)
        if self._brake.pulled:
            return EarlyStop(id=id, epoch=epoch, reason="an alarm ended the run")
        return None

    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """Passes the outcome of a new trial on; ends the run if the trial's cell did not stay sealed."""
        name = trial_id(id, self._model)
        self._turns.end(name)
        if name in self._finished:
            return
        outcome = next((score.score.as_str() for score in scores.values()), "invalid")
        limits = sample_limits()
        self._watcher.judged(name, outcome, Spent(int(limits.token.usage), limits.cost.usage))
        seen = judgement_in(score.score for score in scores.values())
        # A cell that was not proved before its trial ran nothing: that trial is lost, and no other one is in doubt.
        if seen is not None and seen.evidence.seal_before is not None and seen.evidence.seal_before.verified:
            what = containment_in_doubt(seen.evidence, seen.verdict)
            if what is not None and not self._brake.pulled:
                self._end(name, what)

    def _stop(self, raised: Raised) -> None:
        self._end(trial_id(raised.trial, self._model), f"boundary: {raised.kind}: {raised.detail}")

    def _end(self, trial: str, what: str) -> None:
        try:
            self._brake.pull(trial, what)
        finally:
            self._turns.release()

    async def complete_task(self) -> dict[str, JsonValue]:
        """Adds nothing to the log."""
        return {}
