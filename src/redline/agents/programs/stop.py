"""Kill processes with their descendants. Runs in the namespaces of a cell, where few modules can be imported."""

import errno
import os
import signal


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
    table = [entry for entry in map(read_stat, os.listdir("/proc")) if entry is not None]
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
        if is_running(process):
            os.kill(process["pid"], number)
            return True
        return False
    try:
        # Compared while the descriptor is open, so that the pid cannot be reused.
        if not is_running(process):
            return False
        signal.pidfd_send_signal(held, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(held)


def is_running(process: dict[str, int]) -> bool:
    """Return whether the pid still belongs to the same process."""
    now = read_stat(str(process["pid"]))
    return now is not None and now["start"] == process["start"]


def read_stat(name: str) -> dict[str, int] | None:
    """Return the pid, parent and start time of a process; None if it does not exist."""
    try:
        with open(f"/proc/{int(name)}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return {"pid": int(name), "parent": int(fields[1]), "start": int(fields[19])}
