"""Kill processes with their descendants. Runs in the namespaces of a cell, where few modules can be imported."""

from __future__ import annotations

import errno
import os
import signal

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    # Provided by the process that runs this program.

    def is_running(pid: int, start: int) -> bool:
        """Return whether the process with this pid and start time exists and is not a zombie."""

    def stat_fields(pid: int) -> list[bytes]:
        """Return the fields of `/proc/PID/stat` after the name: state, parent, …, start time (20th)."""


PARENT_FIELD, START_FIELD = 1, 19


def main(request: dict[str, list[dict[str, int]]], fds: list[int]) -> tuple[dict[str, list[int]], list[int]]:
    """Kill each process, given by pid and start time, with its descendants; return which were still running.

    A process that an earlier command left in the background is no longer a descendant and keeps running.
    """
    stopped = [process["pid"] for process in request["processes"] if send(signal.SIGSTOP, process)]
    for process in descendants(stopped):
        send(signal.SIGKILL, process)
    for process in request["processes"]:
        send(signal.SIGKILL, process)
    return {"stopped": stopped}, []


def descendants(roots: list[int]) -> list[dict[str, int]]:
    """Return the descendants of stopped processes."""
    table = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        if fields := stat_fields(int(name)):
            table.append({"pid": int(name), "parent": int(fields[PARENT_FIELD]), "start": int(fields[START_FIELD])})
    family = set(roots)
    found: list[dict[str, int]] = []
    while True:
        more = [entry for entry in table if entry["parent"] in family and entry["pid"] not in family]
        if not more:
            return found
        found += more
        family |= {entry["pid"] for entry in more}


def send(number: int, process: dict[str, int]) -> bool:
    """Send a signal to a process; return False if the process has ended."""
    try:
        held = os.pidfd_open(process["pid"])
    except ProcessLookupError:
        return False
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Without pidfd (gVisor), the harness has stopped all other processes of the agent, so no pid can be reused.
        if is_running(process["pid"], process["start"]):
            os.kill(process["pid"], number)
            return True
        return False
    try:
        # Compared while the descriptor is open, so that the pid cannot be reused.
        if not is_running(process["pid"], process["start"]):
            return False
        signal.pidfd_send_signal(held, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
