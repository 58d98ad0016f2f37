"""Run joined programs inside a node, for an attendant. Standard library only."""

from __future__ import annotations

import array
import contextlib
import errno
import functools
import json
import os
import signal
import socket
import stat
import traceback
import types

from redline.cell.programs.prelude import is_running, openat2_in_root, stat_fields

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PROGRAMS_KEPT = 16
MAX_DESCRIPTORS = 200


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below a folder without following any link; works also where a filter denies openat2."""
    try:
        return openat2_in_root(root_fd, path, flags, mode)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return open_by_steps(root_fd, path, flags | (0 if flags & os.O_PATH else os.O_NONBLOCK), mode)


def open_by_steps(root_fd: int, path: str, flags: int, mode: int) -> int:
    """Do the same without openat2: open one name after the other, none of them a link."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
    for name in names[:-1]:
        try:
            above = here
            here = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        finally:
            os.close(above)
    try:
        fd = os.open(names[-1] if names else ".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
    finally:
        os.close(here)
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return fd


def join_namespace(fd: int, kind: int) -> None:
    """Refuse: here a program is in the node's namespaces already."""
    raise OSError(errno.EPERM, "a program in the node joins no namespace")


def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield (node, pid) of every process here, including this program and its children."""
    ((node, _),) = inits.items()
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield node, int(name)


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def compiled(program: str) -> types.CodeType:
    """Compile a program, once rather than in every fork."""
    return compile(program, "<joined>", "exec")


def run_program(message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Run a program's text in this fork."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(max(1, int(message["timeout"]) + 1))
    scope: dict[str, Any] = {
        "__name__": "joined",
        "openat2_in_root": open_in_root,
        "join_namespace": join_namespace,
        "is_running": is_running,
        "stat_fields": stat_fields,
        "cell_processes": cell_processes,
    }
    exec(compiled(message["program"]), scope)
    request = {"proc": "/proc", **message["request"], "inits": {message["node"]: 1}}
    answer: tuple[dict[str, Any], list[int]] = scope["main"](request, fds)
    return answer


def answer_in_fork(message: dict[str, Any], fds: list[int], channel: socket.socket) -> None:
    """Run a program and send its answer: a memory file of JSON, and the descriptors that belong to it."""
    made: list[int] = []
    try:
        result, made = run_program(message, fds)
        answer: dict[str, Any] = {"answer": result}
    except BaseException as error:
        detail = "".join(traceback.format_exception(error))[-2000:]
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        answer = {"error": text, "detail": detail, "errno": getattr(error, "errno", None)}
    body = os.memfd_create("reply")
    data = memoryview(json.dumps(answer).encode())
    while data:
        data = data[os.write(body, data) :]
    socket.send_fds(channel, [b"!"], [body, *made])


def start_program(message: dict[str, Any], fds: list[int]) -> tuple[int, socket.socket]:
    """Run a program in a fork; return its pid and the socket of its answer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(SyntaxError, ValueError):  # the fork reports it to the harness
        compiled(message["program"])
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            answer_in_fork(message, fds, theirs)
        finally:
            os._exit(0)
    theirs.close()
    ours.setblocking(False)
    return pid, ours


def receive_answer(channel: socket.socket) -> list[int]:
    """Return the descriptors of a program's answer, its memory file first; none if it ended without an answer.

    Raises:
        BlockingIOError: There is no answer yet.
    """
    fds = array.array("i")
    try:
        message, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4))
    except BlockingIOError:
        raise
    except OSError:
        return []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds) if message else []


class Work:
    """A program that runs in a fork."""

    def __init__(self, number: int, pid: int, channel: socket.socket, deadline: float) -> None:
        """Store the channel of its answer and its deadline."""
        self.number, self.pid, self.channel, self.deadline = number, pid, channel, deadline
