"""Holding a run back while a model does not answer, and stopping it when that lasts or repeats."""

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
    """Lets trials with one model start while its server answers."""

    def __init__(self, model: Model, aborter: RunAborter, seconds: float | None = None) -> None:
        """Begin with a model of which nothing is known yet.

        Args:
            model: The model.
            aborter: Ends the run.
            seconds: How long to wait for an answer; None takes the default.
        """
        self._model = model
        self._aborter = aborter
        self._seconds = limits().wait.model_wait_seconds if seconds is None else seconds
        self._probing = anyio.Lock()
        self._reason: str | None = None
        self._in_a_row = 0

    async def until_answering(self) -> None:
        """Return once the model answers, or once the run is to end since it does not."""
        health = health_of(self._model)
        while health.failing_since is not None and not self._aborter.ended:
            if health.failing_seconds > self._seconds:
                fault = str(health.last) if health.last else "no answer"
                self._aborter.give_up(
                    f"stopped: {self._model} did not answer for {health.failing_seconds:.0f} s ({fault}); "
                    f"{_then(fix_for(fault))}the same command resumes"
                )
                return
            await anyio.sleep(limits().wait.ask_again_seconds)
            async with self._probing:  # one probe at a time, whoever waits
                if health.failing_since is not None:
                    await probe(self._model)

    def judged(self, verdict: Verdict) -> None:
        """Take in the verdict on a trial; stop the run where one reason of the model's side repeats."""
        reason = verdict.invalid_reason or ""
        if not (verdict.outcome == "invalid" and verdict.invalid_cause == "harness" and reason.startswith(PREFIX)):
            self._reason, self._in_a_row = None, 0
            return
        kind = reason_kind(reason)
        self._in_a_row = self._in_a_row + 1 if kind == self._reason else 1
        self._reason = kind
        if self._in_a_row >= limits().wait.same_reason:
            self._aborter.give_up(
                f"stopped: {self._in_a_row} trials in a row were spoilt by the model's side ({reason}); "
                f"{_then(fix_for(reason))}the same command resumes"
            )


def _then(fix: str) -> str:
    return f"{fix}, then " if fix else ""


class _Shown(Protocol):
    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """A model has not answered for so many seconds; 0 once it answers again."""
        ...


@contextmanager
def shown_waits(models: Sequence[Model], watcher: _Shown) -> Iterator[None]:
    """Show the user, until the end of the block, which model does not answer, and since when.

    It is a thread of its own: trials that wait for a server give the event loop nothing to show.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(models, watcher, ended), daemon=True, name="redline-waits")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(JOIN_SECONDS)


def _show(models: Sequence[Model], watcher: _Shown, ended: threading.Event) -> None:
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
