"""Inside half of the full set: exhaust each resource, to verify that its limit is enforced. Executed by `inside.py`."""

from __future__ import annotations

import _thread
import errno
import mmap
import os
import resource
import time

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

PAGE = 4096
MIB = 1 << 20
BUSY_SECONDS = 0.15
SPARE_FORKS = 8
STACK = 1 << 16


def open_files(task: dict[str, Any]) -> dict[str, Any]:
    """Open files until the limit is reached."""
    held: list[int] = []
    try:
        while len(held) <= 2 * task["limits"]["open_files"]:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return {"open": max(held) + 1, "error": error.errno}
    finally:
        for fd in held:
            os.close(fd)
    return {"open": len(held), "error": 0}


def file_size(task: dict[str, Any]) -> dict[str, Any]:
    """Write one file in the smallest writable folder until the limit is reached."""
    folder, size = task["limits"]["smallest"]
    path = os.path.join(folder, "." + os.urandom(8).hex())
    written = 0
    block = bytes(MIB)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    try:
        while written <= size + 2 * MIB:
            written += os.write(fd, block)
    except OSError as error:
        return {"written": written, "error": error.errno}
    finally:
        os.close(fd)
        os.unlink(path)
    return {"written": written, "error": 0}


def processor_time(task: dict[str, Any]) -> dict[str, Any]:
    """Run one busy process more than the CPU limit allows, and sum the CPU time that they receive."""
    count = int(task["limits"]["cpus"]) + 1
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    children: list[int] = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < begun + BUSY_SECONDS:
                pass
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"used": used, "seconds": time.monotonic() - begun}


def memory(task: dict[str, Any]) -> dict[str, Any]:
    """Let a child allocate more memory than the limit, if the limit is small enough to try."""
    if not task["limits"]["try_memory"]:
        return {"tried": False, "signal": 0}
    pid = os.fork()
    if pid == 0:
        size = (task["limits"]["memory_mib"] + 32) * MIB
        try:
            room = mmap.mmap(-1, size)
            for at in range(0, size, PAGE):
                room[at] = 1
        except MemoryError:
            os._exit(errno.ENOMEM)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return {
        "tried": True,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        "code": os.WEXITSTATUS(status),
    }


def processes_at_once(task: dict[str, Any]) -> dict[str, Any]:
    """Start threads, which count as processes, until the limit is reached, and then try to fork.

    This happens in a child, whose threads all end with it. Forking each time would take seconds on gVisor.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"%d %d" % fill(task["limits"]["pids"] + SPARE_FORKS))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, "rb") as file:
        forked, number = map(int, file.read().split())
    return {"forked": forked, "error": number}


def fill(maximum: int) -> tuple[int, int]:
    """Start up to `maximum` threads. Return the number of processes and threads, and the error of the final fork."""
    wait, _ = os.pipe()
    _thread.stack_size(STACK)
    made = 1  # this process
    try:
        while made < maximum:
            _thread.start_new_thread(os.read, (wait, 1))
            made += 1
    except RuntimeError:
        pass
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError as error:
        return made, error.errno or errno.EIO
    return made + 1, 0


GROUPS = (open_files, file_size, processor_time, memory, processes_at_once)
