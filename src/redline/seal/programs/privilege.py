"""Inside half of the full set: privilege, namespaces and what a process inherits. Executed by `inside.py`."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import time

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

TIOCSTI = 0x5412
SEM_INFO = 19
CLOCK_REALTIME = 0

NOT_STARTED = 127
libc = ctypes.CDLL(None, use_errno=True)


def raised_programs(_task: dict[str, Any]) -> dict[str, Any]:
    """Run the setuid and setgid programs, and return those that ended with other ids than the agent's."""
    ran, raised = [], []
    for name in ("su", "mount", "passwd", "newgrp", "chage", "sudo"):
        path = "/usr/bin/" + name
        try:
            if not os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
                continue
        except OSError:
            continue
        ids = ids_at_end(path)
        if ids is None:
            continue
        ran.append(path)
        if set(ids) != {os.getuid(), os.getgid()}:
            raised.append(path)
    return {"ran": ran, "raised": raised}


def ids_at_end(path: str) -> list[int] | None:
    """Run a program and return all its user and group ids at its end, read before it is reaped; None if it failed."""
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.execv(path, [path, "--help"])
        finally:
            os._exit(NOT_STARTED)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{pid}/status") as file:
        ids = [int(word) for line in file if line.startswith(("Uid:", "Gid:")) for word in line.split()[1:]]
    _, code = os.waitpid(pid, 0)
    return None if os.waitstatus_to_exitcode(code) == NOT_STARTED else ids


def security(_task: dict[str, Any]) -> dict[str, Any]:
    """Return the label that a security module of the host assigned to this process."""
    try:
        with open("/proc/self/attr/current") as file:
            label = file.read().strip("\0\n ")
    except OSError as error:
        label = ""
        return {"label": label, "error": os.strerror(error.errno or 0)}
    return {"label": label, "error": ""}


def ipc(task: dict[str, Any]) -> dict[str, Any]:
    """Return the IPC objects of this namespace, and which IPC canaries of the host can be reached."""
    tables = {}
    for name in ("shm", "sem", "msg"):
        try:
            with open("/proc/sysvipc/" + name) as file:
                tables[name] = len(file.read().splitlines()) - 1
        except FileNotFoundError:
            continue  # a separate kernel such as gVisor's, whose only count is that of semctl
    info = (ctypes.c_int * 10)()
    result = libc.semctl(0, 0, SEM_INFO, info)
    if result >= 0:
        tables["semctl"] = info[7]  # sets in use
    # Names can contain any bytes of the agent's choice; only a line feed ends a line.
    with open("/proc/net/unix", errors="replace", newline="\n") as file:
        abstract = sorted({word for line in file for word in line.split()[-1:] if word.startswith("@")})
    reached = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect("\0" + task["abstract_name"])
            reached.append("abstract socket")
        except OSError:
            pass
    if libc.semget(task["semaphore_key"], 1, 0) >= 0:
        reached.append("semaphore")
    if os.path.lexists("/dev/shm/" + task["shared_name"]):
        reached.append("shared memory")
    return {"tables": tables, "abstract": abstract, "shm": sorted(os.listdir("/dev/shm")), "reached": reached}


def terminal(_task: dict[str, Any]) -> dict[str, Any]:
    """Return whether there is a controlling terminal, and the descriptors into whose input a process can type."""
    writable_input = []
    for fd in range(3):
        try:
            fcntl.ioctl(fd, TIOCSTI, b"x")
            writable_input.append(str(fd))
        except OSError:
            continue
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        controlling = True
    except OSError:
        controlling = False
    return {"writable_input": writable_input, "controlling": controlling}


def environment(_task: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of this process, and the names of the variables of all processes that can be read."""
    own = dict(os.environ)  # in isolated mode the interpreter adds none; this process cannot read the kernel's copy
    others: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                others |= {
                    word.partition(b"=")[0].decode(errors="replace") for word in file.read().split(b"\0") if word
                }
        except OSError:
            continue
    return {"own": own, "others": sorted(others)}


def clock(_task: dict[str, Any]) -> dict[str, Any]:
    """Return the time in the cell, and the error of an attempt to set it."""
    now = (ctypes.c_long * 2)(*divmod(time.clock_gettime_ns(CLOCK_REALTIME), 10**9))
    ctypes.set_errno(0)
    number = 0 if libc.clock_settime(CLOCK_REALTIME, now) == 0 else ctypes.get_errno()
    return {"now": time.time(), "set": number}


GROUPS = (raised_programs, security, ipc, terminal, environment, clock)
