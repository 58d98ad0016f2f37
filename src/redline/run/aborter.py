"""Stop a run at an alarm: no further trial starts, running trials finish, and the folder records the reason.

The user's first Ctrl-C stops a run in the same way, without a record in the folder; the same command resumes it.

An alarm is written to the folder before anything else happens, so it persists even if the run is killed at that
moment: the trial is never run again, and every later command on the folder ends in the same way.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from inspect_ai._control.cancel import cancel_task, drain_task  # Inspect offers it only to its own command line

from redline._base import Frozen
from redline.run.folder import RunFolder
from redline.run.journal import append, entries


class AlarmNote(Frozen):
    """An alarm that ended a run, as recorded in its folder."""

    trial: str
    """ID of the trial in the results."""
    what: str
    """Cause of the alarm."""
    at: datetime | None = None
    """Time of the alarm in UTC; null in folders of version 0.1.0."""


class RunAborter:
    """Stops a run at its first alarm, at the user's request, or when a model stays silent."""

    def __init__(self, folder: RunFolder) -> None:
        """Record alarms in this folder."""
        self._folder = folder
        self._tasks: list[str] = []
        self._task_started_listeners: list[Callable[[], None]] = []
        self._stopped_listeners: list[Callable[[], None]] = []
        self._given_up_listeners: list[Callable[[], None]] = []
        self._alarmed_listeners: list[Callable[[], None]] = []
        self.alarmed = False
        """Whether there was an alarm."""
        self.given_up: str | None = None
        """Why the run was given up without an alarm or a request by the user; None if it was not."""
        self.stopped = False
        """Whether the user stopped the run."""
        self.in_flight = 0
        """Trials in flight when the user stopped the run."""

    @property
    def ended(self) -> bool:
        """Whether no further trial starts."""
        return self.alarmed or self.stopped or self.given_up is not None

    def add_task(self, task_id: str) -> None:
        """Add a running task of Inspect that this aborter can end."""
        self._tasks.append(task_id)
        for listener in self._task_started_listeners:
            listener()

    def give_up(self, why: str) -> None:
        """End the run without an alarm: trials in flight finish and are kept, and a later command runs the others."""
        if self.ended:
            return
        self.given_up = why
        self._drain()
        for listener in self._given_up_listeners:
            listener()

    def alarm(self, trial: str, what: str) -> None:
        """End the run because of a trial's alarm.

        Waiting samples are dropped, and a later command runs them. Running samples finish and are kept: each has its
        own cell, seal and alarm, and discarding a started trial would bias the rate.
        """
        self.alarmed = True
        try:
            note_alarm(self._folder, AlarmNote(trial=trial, what=what, at=datetime.now(UTC)))
        finally:
            self._drain()
            for listener in self._alarmed_listeners:
                listener()

    def on_task_started(self, listener: Callable[[], None]) -> None:
        """Call a function, in the event loop of the run, whenever a task of Inspect starts."""
        self._task_started_listeners.append(listener)

    def on_stopped(self, listener: Callable[[], None]) -> None:
        """Call a function when the user stops the run."""
        self._stopped_listeners.append(listener)

    def on_alarmed(self, listener: Callable[[], None]) -> None:
        """Call a function after every alarm, which the folder then records."""
        self._alarmed_listeners.append(listener)

    def on_given_up(self, listener: Callable[[], None]) -> None:
        """Call a function when the run is given up."""
        self._given_up_listeners.append(listener)

    def request_stop(self) -> None:
        """Record the user's request to stop; safe in a signal handler."""
        self.stopped = True

    def stop(self) -> None:
        """Start no further trial, at the user's request; trials in flight finish and are kept."""
        self.request_stop()
        self.in_flight = self._drain()
        for listener in self._stopped_listeners:
            listener()

    def cancel(self) -> None:
        """Cancel the trials in flight at the user's second request; the same command runs them again."""
        self.request_stop()
        for task_id in self._tasks:
            cancel_task(task_id)

    def _drain(self) -> int:
        """Make Inspect drop the waiting samples; return how many are in flight."""
        drained = [drain_task(task_id) for task_id in self._tasks]
        return sum(one["in_flight"] for one in drained if one is not None and one["ok"])


def note_alarm(folder: RunFolder, note: AlarmNote) -> None:
    """Append an alarm to the folder's list."""
    append(folder.alarms, note)


def alarms_of(folder: RunFolder) -> dict[str, str]:
    """Return the cause of each alarm in a folder, by trial.

    Raises:
        EvidenceError: The folder's list of alarms was altered.
    """
    return {note.trial: note.what for note in reversed(notes_of(folder))}


def notes_of(folder: RunFolder) -> tuple[AlarmNote, ...]:
    """Return the alarms of a folder, oldest first.

    Raises:
        EvidenceError: The folder's list of alarms was altered.
    """
    return entries(folder.alarms, AlarmNote)
