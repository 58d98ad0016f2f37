"""The brake of a run: at an alarm no further trial starts, trials that run go on to their end, and the folder says why.

An alarm is written to the folder before anything else is done about it. So it stands even if the run is killed in the
next moment: the trial is never drawn again, and every later command on the folder ends as this one does.
"""

from inspect_ai._control.cancel import drain_task  # Inspect offers it to its own command line alone
from pydantic import BaseModel, ConfigDict

from redline.run.folder import RunFolder
from redline.run.journal import append, entries


class AlarmNote(BaseModel):
    """An alarm that ended a run, as its folder keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial: str
    """The trial, as the results name it."""
    what: str
    """What raised the alarm."""


class Brake:
    """Ends a run at its first alarm."""

    def __init__(self, folder: RunFolder) -> None:
        """Notes alarms in a folder."""
        self._folder = folder
        self._tasks: list[str] = []
        self.pulled = False
        """Whether the run is to end: no further trial starts."""
        self.given_up: str | None = None
        """Why the run ends without an alarm, where it does."""

    def hold(self, task_id: str) -> None:
        """Takes in a task of Inspect's that is to end."""
        self._tasks.append(task_id)

    def give_up(self, why: str) -> None:
        """End the run without an alarm: trials in flight are finished and kept, and a later command runs the others."""
        if self.pulled:
            return
        self.pulled, self.given_up = True, why
        for task_id in self._tasks:
            drain_task(task_id)

    def pull(self, trial: str, what: str) -> None:
        """Ends the run for a trial's alarm.

        Samples that wait are given up, and a later command draws them; samples that run are finished and kept. Each has
        a cell, a seal and an alarm of its own, and a draw that is thrown away would bias the rate.
        """
        self.pulled = True
        try:
            note_alarm(self._folder, AlarmNote(trial=trial, what=what))
        finally:
            for task_id in self._tasks:
                drain_task(task_id)


def note_alarm(folder: RunFolder, note: AlarmNote) -> None:
    """Adds an alarm to those of a folder."""
    append(folder.alarms, note)


def alarms_of(folder: RunFolder) -> dict[str, str]:
    """What raised an alarm in the runs of a folder, by trial.

    Raises:
        EvidenceError: The folder's list of alarms is altered.
    """
    return {note.trial: note.what for note in reversed(entries(folder.alarms, AlarmNote))}
