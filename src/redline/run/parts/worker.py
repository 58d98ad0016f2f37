"""A worker process: runs one part, reports to the parent over its pipes, and ends when the parent is gone.

The parent starts `python -m redline.run.parts.worker`. The worker has a process of its own because a run needs the main
thread for its signals, and because Inspect and Rich keep state per process.
"""

import os
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from redline._errors import ExitCode, RedlineError
from redline._memory import collecting_trials, prepare_memory
from redline._names import one_line
from redline.plan import Plan
from redline.run.execute import RunOptions, RunOutcome, run_plan
from redline.run.lock import FolderInUseError
from redline.run.parts.attempts import open_attempt
from redline.run.parts.messages import Alarm, Began, Checked, Ended, Failed, Job, Judged, Note, Sealed, Sealing, Waiting
from redline.run.watch import Spent

LOCK_SECONDS = 60.0
"""Time to wait for the folder of a part: a worker of an earlier command may still be ending its trials there."""

RETRY_SECONDS = 0.5

ORDERLY_SECONDS = 4.0
"""Time for a worker to write its results after its parent is gone."""

CHUNK = 1 << 16


class ReportingWatcher:
    """Passes the progress of a part on to the parent."""

    def __init__(self, pipe: BinaryIO) -> None:
        """Store the pipe to the parent."""
        self._pipe = pipe

    def send(self, message: BaseModel) -> None:
        """Send a message; if the parent is gone, the thread at the other pipe ends this process."""
        try:
            self._pipe.write(message.model_dump_json().encode() + b"\n")
            self._pipe.flush()
        except OSError:
            pass

    def checked(self, line: str) -> None:
        """Send the line."""
        self.send(Checked(line=line))

    def sealing(self, runtime: str) -> None:
        """Send the runtime."""
        self.send(Sealing(runtime=runtime))

    def sealed(self, summary: str, seconds: float) -> None:
        """Send the result."""
        self.send(Sealed(summary=summary, seconds=seconds))

    def began(self, planned: int, finished: int, cells: int) -> None:
        """Send the number of finished trials."""
        self.send(Began(finished=finished))

    def judged(self, trial: str, outcome: str, spent: Spent) -> None:
        """Send the outcome."""
        self.send(Judged(trial=trial, outcome=outcome, tokens=spent.tokens, cost=spent.cost))

    def waiting(self, model: str, seconds: float, fault: str) -> None:
        """Send the wait."""
        self.send(Waiting(model=model, seconds=seconds, fault=fault))

    def ended(self) -> None:
        """Send nothing; the end of the part follows."""

    def note(self, line: str) -> None:
        """Send the line."""
        self.send(Note(line=line))


def main() -> None:
    """Run the part that the first line of stdin describes."""
    prepare_memory()
    # A shell lets background processes ignore SIGINT, but the parent passes it on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    watcher = ReportingWatcher(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # whatever a library prints goes to the worker's log
    try:
        job = Job.model_validate_json(_first_line())
        threading.Thread(target=_end_without_parent, name="parent", daemon=True).start()
        with collecting_trials():
            outcome = _run(job, watcher)
        watcher.send(Ended(exit_code=outcome.exit_code, remarks=outcome.remarks))
    except RedlineError as error:
        in_use = isinstance(error, FolderInUseError)
        watcher.send(Failed(exit_code=error.exit_code, message=str(error), in_use=in_use))
    except KeyboardInterrupt:
        watcher.send(Ended(exit_code=ExitCode.INTERRUPTED))
    except Exception as error:
        traceback.print_exception(error)
        watcher.send(Failed(exit_code=ExitCode.INTERNAL, message=one_line(error)))


def _run(job: Job, watcher: ReportingWatcher) -> RunOutcome:
    plan: Plan = job.plan.plan
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            folder, record = open_attempt(Path(job.root), plan, job.part)
            options = RunOptions(
                prices=None if job.prices is None else Path(job.prices),
                cells=job.cells,
                judge=job.judge,
                monitor=job.monitor,
                max_retries=job.max_retries,
                model_timeout=job.model_timeout,
                model_wait=job.model_wait,
                preflight=job.preflight,
                part=record,
                on_alarm=lambda: watcher.send(Alarm()),
            )
            return run_plan(plan, folder, watcher, options)
        except FolderInUseError:
            if time.monotonic() > end:
                raise
            time.sleep(RETRY_SECONDS)


def _first_line() -> bytes:
    """Return the first line of stdin without a buffer, whose lock a daemon thread would hold when Python ends."""
    line = b""
    while not line.endswith(b"\n") and (read := os.read(0, CHUNK)):
        line += read
    return line


def _end_without_parent() -> None:
    """End this process when the parent's end of stdin closes, which also happens if the parent is killed.

    It ends in order if that is quick. Otherwise it ends as if it were killed too: nothing that is finished is lost, and
    its warden ends its cells.
    """
    while os.read(0, CHUNK):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORDERLY_SECONDS)
    os._exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
