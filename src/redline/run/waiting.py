"""Pause a run while a model does not answer, and stop it if the model stays silent or fails repeatedly."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio
from inspect_ai.model import Model

from redline.models.ask import health_of, probe
from redline.models.faults import fix_for
from redline.models.limits import limits
from redline.run.aborter import RunAborter
from redline.verify.model_side import PREFIX, reason_kind
from redline.verify.verdict import Verdict

SHOWN_EVERY_SECONDS = 1.0
JOIN_SECONDS = 5.0


class ModelWait:
    """Delays trials with one model until its server answers."""

    def __init__(self, model: Model, aborter: RunAborter, seconds: float | None = None) -> None:
        """Store the parameters; assume that the model answers.

        Args:
            model: The model.
            aborter: Ends the run.
            seconds: Maximum time to wait for an answer; None uses the default.
        """
        self._model = model
        self._aborter = aborter
        self._seconds = limits().wait.model_wait_seconds if seconds is None else seconds
        self._probing = anyio.Lock()
        self._reason: str | None = None
        self._in_a_row = 0

    async def until_answering(self) -> None:
        """Return when the model answers, or when the run ends because it does not."""
        health = health_of(self._model)
        while health.failing_since is not None and not self._aborter.ended:
            if health.failing_seconds > self._seconds:
                fault = str(health.last) if health.last else "no answer"
                self._aborter.give_up(
                    f"stopped: {self._model} did not answer for {health.failing_seconds:.0f} s ({fault}); "
                    f"{_resume(fix_for(fault))}"
                )
                return
            await anyio.sleep(limits().wait.ask_again_seconds)
            async with self._probing:  # one probe at a time for all waiting trials
                if health.failing_since is not None:
                    await probe(self._model)

    def judged(self, verdict: Verdict) -> None:
        """Record the verdict on a trial; stop the run if one reason on the model's side repeats."""
        reason = verdict.invalid_reason or ""
        if not (verdict.outcome == "invalid" and verdict.invalid_cause == "harness" and reason.startswith(PREFIX)):
            self._reason, self._in_a_row = None, 0
            return
        kind = reason_kind(reason)
        self._in_a_row = self._in_a_row + 1 if kind == self._reason else 1
        self._reason = kind
        if self._in_a_row >= limits().wait.same_reason:
            self._aborter.give_up(
                f"stopped: {self._in_a_row} trials in a row failed on the model's side ({reason}); "
                f"{_resume(fix_for(reason))}"
            )


def _resume(fix: str) -> str:
    return f"{fix}, then run the same command to resume" if fix else "run the same command to resume"


class _WaitWatcher(Protocol):
    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Report for how long a model has not answered; 0 s when it answers again."""
        ...


@contextmanager
def shown_waits(models: Sequence[Model], watcher: _WaitWatcher) -> Iterator[None]:
    """Report models that do not answer, and for how long, until the end of the block.

    A separate thread reports, because trials that wait for a server run no code in the event loop.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_report, args=(models, watcher, ended), daemon=True, name="redline-waits")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(JOIN_SECONDS)


def _report(models: Sequence[Model], watcher: _WaitWatcher, ended: threading.Event) -> None:
    shown: set[str] = set()
    while not ended.wait(SHOWN_EVERY_SECONDS):
        for model in models:
            label, health = str(model), health_of(model)
            seconds = health.failing_seconds
            if seconds >= limits().wait.shown_after_seconds:
                shown.add(label)
                watcher.waiting(label, seconds, str(health.last or "no answer"))
            elif label in shown:
                shown.discard(label)
                watcher.waiting(label, 0.0, "")
