"""Stop a run at an alarm: no further trial starts, running trials go on to their end, and the folder says why.

The user's first Ctrl-C ends a run in the same way, without an entry in the folder: the same command completes it.

An alarm is written to the folder before anything else is done about it. So it stands even if the run is killed in the
next moment: the trial is never drawn again, and every later command on the folder ends as this one does.
"""

from collections.abc import Callable

from inspect_ai._control.cancel import drain_task  # Inspect offers it to its own command line alone

from redline._base import Frozen
from redline.run.folder import RunFolder
from redline.run.journal import append, entries


class AlarmNote(Frozen):
    """An alarm that ended a run, as its folder keeps it."""

    trial: str
    """The trial, as the results name it."""
    what: str
    """What raised the alarm."""


class RunAborter:
    """Ends a run at its first alarm."""

    def __init__(self, folder: RunFolder) -> None:
        """Notes alarms in a folder."""
        self._folder = folder
        self._tasks: list[str] = []
        self._on_begun: list[Callable[[], None]] = []
        self._on_stopped: list[Callable[[], None]] = []
        self._on_given_up: list[Callable[[], None]] = []
        self.pulled = False
        """Whether there was an alarm."""
        self.given_up: str | None = None
        """Why the run ends without an alarm and unasked, where it does."""
        self.stopped = False
        """Whether the user asked for the end of the run."""
        self.in_flight = 0
        """Trials that were in flight when the user stopped the run."""

    @property
    def ended(self) -> bool:
        """Whether no further trial starts."""
        return self.pulled or self.stopped or self.given_up is not None

    def hold(self, task_id: str) -> None:
        """Takes in a task of Inspect's that is to end."""
        self._tasks.append(task_id)
        for listener in self._on_begun:
            listener()

    def give_up(self, why: str) -> None:
        """End the run without an alarm: trials in flight are finished and kept, and a later command runs the others."""
        if self.ended:
            return
        self.given_up = why
        self._drain()
        for listener in self._on_given_up:
            listener()

    def pull(self, trial: str, what: str) -> None:
        """Ends the run for a trial's alarm.

        Samples that wait are given up, and a later command draws them; samples that run are finished and kept. Each has
        a cell, a seal and an alarm of its own, and a draw that is thrown away would bias the rate.
        """
        self.pulled = True
        try:
            note_alarm(self._folder, AlarmNote(trial=trial, what=what))
        finally:
            self._drain()

    def on_begun(self, listener: Callable[[], None]) -> None:
        """Have a function called, in the event loop of the run, whenever a task of Inspect's begins."""
        self._on_begun.append(listener)

    def on_stopped(self, listener: Callable[[], None]) -> None:
        """Have a function called when the user stops the run."""
        self._on_stopped.append(listener)

    def on_given_up(self, listener: Callable[[], None]) -> None:
        """Have a function called when the run is given up."""
        self._on_given_up.append(listener)

    def ask_to_stop(self) -> None:
        """Note that the user asked for the end of the run; all that a signal handler may do."""
        self.stopped = True

    def stop(self) -> None:
        """Let no further trial start, as the user asked; trials in flight go on to their end and are kept."""
        self.ask_to_stop()
        self.in_flight = self._drain()
        for listener in self._on_stopped:
            listener()

    def _drain(self) -> int:
        """Have Inspect give up the samples that wait; return how many go on to their end."""
        drained = [drain_task(task_id) for task_id in self._tasks]
        return sum(one["in_flight"] for one in drained if one is not None and one["ok"])


def note_alarm(folder: RunFolder, note: AlarmNote) -> None:
    """Adds an alarm to those of a folder."""
    append(folder.alarms, note)


def alarms_of(folder: RunFolder) -> dict[str, str]:
    """What raised an alarm in the runs of a folder, by trial.

    Raises:
        EvidenceError: The folder's list of alarms is altered.
    """
    return {note.trial: note.what for note in reversed(entries(folder.alarms, AlarmNote))}
