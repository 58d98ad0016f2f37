"""Kills processes and what they are running. Runs joined to a cell, where few modules can be imported."""

import errno
import os
import signal


def main(request: dict[str, list[dict[str, int]]], fds: list[int]) -> tuple[dict[str, list[int]], list[int]]:
    """Kills each process, known by pid and start time, with its descendants; says which still ran.

    A process that was started in an earlier command is nobody's descendant any more, and stays.
    """
    stopped = [process["pid"] for process in request["processes"] if send(signal.SIGSTOP, process)]
    for process in descendants(stopped):
        send(signal.SIGKILL, process)
    for process in request["processes"]:
        send(signal.SIGKILL, process)
    return {"stopped": stopped}, []


def descendants(roots: list[int]) -> list[dict[str, int]]:
    """Children of stopped processes, and theirs."""
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
    """Sends a signal to a process; False if it was gone."""
    try:
        held = os.pidfd_open(process["pid"])
    except ProcessLookupError:
        return False
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Without pidfd (gVisor) the harness has stopped whatever else the agent runs, and no pid can change hands.
        if is_there(process):
            os.kill(process["pid"], number)
            return True
        return False
    try:
        # Compared with the descriptor in hand: the pid cannot pass to another process any more.
        if not is_there(process):
            return False
        signal.pidfd_send_signal(held, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(held)


def is_there(process: dict[str, int]) -> bool:
    """Whether the pid is that very process's."""
    now = read_stat(str(process["pid"]))
    return now is not None and now["start"] == process["start"]


def read_stat(name: str) -> dict[str, int] | None:
    """Pid, parent and start time of a process; None if there is none."""
    try:
        with open(f"/proc/{int(name)}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return {"pid": int(name), "parent": int(fields[1]), "start": int(fields[19])}
