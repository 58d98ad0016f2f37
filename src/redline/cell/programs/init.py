"""First process of a node: starts the commands that arrive on its control socket, reaps, and ends with the socket.

Standard input is a SOCK_SEQPACKET socket. A message is a JSON object, or `{"length": n}` with a descriptor of a
memory file that holds it, together with the descriptors that the operation needs. Results are written to the status
descriptor of the call. When the other end of the socket is gone, this process exits and the kernel ends the node.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
import time

from redline.cell.programs.prelude import shed_capabilities, stat_fields

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Operation = Callable[[dict[str, Any], tuple[int, ...]], None]

AGENT_ID = 1000
MAX_MESSAGE = 1 << 16
MAX_DESCRIPTORS = 8
CHUNK = 1 << 16
LOW = 40
STATUS = 3  # place of a call's status among its descriptors
MAX_DRAINED = 256  # pipes of daemons that are still read; each takes a descriptor of this process
KILL_SECONDS = 2.0  # time to find the descendants of a call that must end
OUT_OF_MEMORY_BIAS = b"500"
DONE = b'{"pid": 1}\n{"returncode": 0}\n'
KEEP = (1 << 5) | (1 << 6) | (1 << 7)  # CAP_KILL, CAP_SETGID, CAP_SETUID: what starting and stopping others needs
ATTENDANT = "/run/attendant"


def become(user: str) -> None:
    """Become the requested user; for the agent's, this drops root for good."""
    os.setgroups([])
    if user == "agent":
        os.setresgid(AGENT_ID, AGENT_ID, AGENT_ID)
        os.setresuid(AGENT_ID, AGENT_ID, AGENT_ID)
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, OUT_OF_MEMORY_BIAS)
        os.close(fd)
    except OSError:
        pass  # only a preference: without it the kernel picks by size


def replace_descriptors(fds: tuple[int, ...]) -> int:
    """Make the first three the standard ones, and the only ones left after exec. Return the status descriptor."""
    for number, fd in enumerate(fds, start=LOW):
        os.dup2(fd, number, inheritable=False)
    for target in range(3):
        os.dup2(LOW + target, target, inheritable=True)
    os.closerange(3, LOW + 3)
    os.closerange(LOW + 4, 65536)
    return LOW + 3


def take_place(request: dict[str, Any], fds: tuple[int, ...]) -> int:
    """Give the forked child the session, descriptors and user of a call. Return the status descriptor."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    status = replace_descriptors(fds)
    become(request["user"])
    os.umask(0o022)
    return status


def run_command(request: dict[str, Any], fds: tuple[int, ...]) -> None:
    """Replace the forked child by the command."""
    status = take_place(request, fds)
    command = request["command"]
    try:
        os.chdir(request["cwd"])
        os.execvpe(command[0], command, request["env"])
    except OSError as error:
        subject = request["cwd"] if error.filename == request["cwd"] else command[0]
        os.write(2, (f"{subject}: {os.strerror(error.errno or 0)}\n").encode())
        os.write(status, json.dumps({"refused": error.errno}).encode() + b"\n")
        os._exit(127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126)


def run_text(request: dict[str, Any], fds: tuple[int, ...]) -> None:
    """Run Python text in the forked child, which saves the start of an interpreter."""
    os.close(take_place(request, fds))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as an interpreter does at its start
    os.environ.clear()
    os.environ.update(request["env"])
    try:
        os.chdir(request["cwd"])
        exec(compile(request["text"], "<text>", "exec"), {"__name__": "__main__"})
        sys.stdout.flush()
    except BaseException as error:
        os.write(2, repr(error).encode(errors="replace"))
        os._exit(1)
    os._exit(0)


def read_file(request: dict[str, Any], fds: tuple[int, ...]) -> None:
    """Write a file to the output; the exit status is the error number."""
    become(request["user"])
    os.chdir(request["cwd"])
    fd = os.open(request["path"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    left = request["limit"] + 1  # one more than allowed tells the reader that there was more
    while left > 0:
        chunk = os.read(fd, min(CHUNK, left))
        if not chunk:
            break
        left -= len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(fds[1], view) :]


def write_file(request: dict[str, Any], fds: tuple[int, ...]) -> None:
    """Write the input to a file, creating the folders above it; the exit status is the error number."""
    become(request["user"])
    os.umask(0o022)
    os.chdir(request["cwd"])
    folder = os.path.dirname(request["path"])
    if folder:
        os.makedirs(folder, exist_ok=True)
    fd = os.open(request["path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    while True:
        chunk = os.read(fds[0], CHUNK)
        if not chunk:
            break
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]
    os.close(fd)


def file_operation(operation: Operation, request: dict[str, Any], fds: tuple[int, ...]) -> None:
    """Run a file operation in the forked child and exit with its error number."""
    try:
        operation(request, fds)
    except OSError as error:
        os._exit(error.errno or errno.EIO)
    os._exit(0)


def report(fd: int, answer: bytes) -> None:
    """Write to a caller that may be gone, or whose pipe may be broken or full, which must not end this process."""
    with contextlib.suppress(OSError):
        os.write(fd, answer)


def process_table() -> Iterator[tuple[int, int, int]]:
    """Yield (pid, parent, session) of every visible process."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return  # no descriptor or no memory is left
    for name in names:
        if name.isdigit():
            fields = stat_fields(name)
            if fields:
                yield int(name), int(fields[1]), int(fields[3])


def kill_tree(root: int) -> None:
    """Kill a command with its session and all its descendants.

    Each process is stopped as soon as it is found, which ends a fork bomb; one that still grows must not keep the
    first process from its other work.
    """
    doomed = {root}
    fresh = {root}
    deadline = time.monotonic() + KILL_SECONDS
    while fresh and time.monotonic() < deadline:
        send_signal(fresh, signal.SIGSTOP)
        table = list(process_table())
        fresh = {pid for pid, parent, session in table if parent in doomed or session == root} - doomed
        doomed |= fresh
    send_signal(doomed, signal.SIGKILL)


def send_signal(pids: set[int], number: int) -> None:
    """Send a signal to those of the processes that still exist."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


class Init:
    """The loop of the first process."""

    def __init__(self, control: socket.socket) -> None:
        """Serve the requests on `control`."""
        self.control = control
        self.poll = select.epoll()
        self.poll.register(control.fileno(), select.EPOLLIN)
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll.register(self.wake_read, select.EPOLLIN)
        self.calls: dict[int, int] = {}  # pid of a call's main process -> its status descriptor
        self.pids: dict[int, int] = {}  # number of a call -> that pid
        self.drained: dict[int, None] = {}  # in the order of their arrival
        # A quarter of the descriptors of this process: calls in progress need the others.
        self.most_drained = min(MAX_DRAINED, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    def run(self) -> None:
        """Serve until the other end of the control socket is gone."""
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.wake_read:
                    self.reap()
                elif fd in self.drained:
                    self.drain(fd)
                elif fd == self.control.fileno() and not self.serve():
                    return

    def serve(self) -> bool:
        """Serve one message. Return False at the end of the socket."""
        message, ancillary, _, _ = self.control.recvmsg(
            MAX_MESSAGE, socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        )
        if not message:
            return False
        received = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
        fds = list(received)
        request = json.loads(message)
        if "length" in request:
            body = fds.pop(0)
            request = json.loads(os.pread(body, request["length"], 0))
            os.close(body)
        kept: tuple[int, ...] = ()
        try:
            kept = getattr(self, "do_" + request["op"])(request, fds)
        except OSError as error:
            # When the agent has used up processes, memory or descriptors, one call fails and this process goes on.
            if len(fds) > STATUS:
                report(fds[STATUS], json.dumps({"error": error.errno}).encode())
        for fd in fds:
            if fd not in kept:
                os.close(fd)
        return True

    def start(self, request: dict[str, Any], fds: list[int], child: Operation) -> tuple[int, ...]:
        """Fork a child for a call. The last descriptor is the call's status."""
        if len(fds) <= STATUS:
            # The kernel had no descriptor left to pass; the caller sees its pipes end.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        status = fds[STATUS]
        pid = os.fork()
        if pid == 0:
            try:
                child(request, tuple(fds))
            except BaseException as error:
                report(fds[2], (f"init: {error!r}\n").encode())
            finally:
                os._exit(125)
        self.calls[pid] = status
        self.pids[request["call"]] = pid
        report(status, json.dumps({"pid": pid}).encode() + b"\n")
        return (status,)

    def do_exec(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Start a command."""
        return self.start(request, fds, run_command)

    def do_text(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Run Python text."""
        return self.start(request, fds, run_text)

    def do_spawn(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Start a daemon: the call ends once it is started, and its pid is the call's output."""
        pid = os.fork()
        if pid == 0:
            try:
                null = os.open("/dev/null", os.O_RDWR)
                run_command(request, (null, null, null, null))
            finally:
                os._exit(125)
        report(fds[1], b"%d" % pid)
        report(fds[3], DONE)
        return ()

    def do_read(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Read a file as the caller's user."""
        return self.start(request, fds, lambda *given: file_operation(read_file, *given))

    def do_write(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Write a file as the caller's user."""
        return self.start(request, fds, lambda *given: file_operation(write_file, *given))

    def do_kill(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Kill a call that has exceeded its time, with its descendants."""
        pid = self.pids.get(request["call"])
        if pid is not None:
            kill_tree(pid)
        return ()

    def do_signal(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Send a signal to every process of this node except this one, all at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, request["signal"])
        report(fds[3], DONE)
        return ()

    def do_drain(self, request: dict[str, Any], fds: list[int]) -> tuple[int, ...]:
        """Keep reading what a daemon writes after its call has ended, so that no broken pipe ends it.

        With more daemons than the limit, the pipe of the oldest is closed.
        """
        for fd in fds:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.EPOLLIN)
            self.drained[fd] = None
        while len(self.drained) > self.most_drained:
            self.leave(next(iter(self.drained)))
        return tuple(fd for fd in fds if fd in self.drained)

    def drain(self, fd: int) -> None:
        """Discard what a daemon has written."""
        try:
            if os.read(fd, CHUNK):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.leave(fd)

    def leave(self, fd: int) -> None:
        """Stop reading a daemon's pipe."""
        self.drained.pop(fd, None)
        with contextlib.suppress(OSError):
            self.poll.unregister(fd)
        os.close(fd)

    def reap(self) -> None:
        """Collect every ended process and report the ends of calls."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        while True:
            try:
                pid, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            status = self.calls.pop(pid, None)
            if status is None:
                continue
            self.pids = {call: other for call, other in self.pids.items() if other != pid}
            with contextlib.suppress(OSError):  # the caller may have given up waiting
                os.write(status, json.dumps({"returncode": os.waitstatus_to_exitcode(code)}).encode() + b"\n")
            os.close(status)


def start_attendant(control: socket.socket, node: str) -> None:
    """Fork the attendant of a node that the host cannot see into, before this process drops its capabilities.

    Its stream is the descriptor that comes with the first message.
    """
    _, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
    if os.fork() == 0:
        try:
            control.close()
            with open(ATTENDANT) as file:
                text = file.read()
            scope: dict[str, Any] = {"__name__": "attendant"}
            exec(compile(text, ATTENDANT, "exec"), scope)
            scope["main"](fds[0], fds[0], None, node)
        finally:
            os._exit(0)
    os.close(fds[0])


def main() -> None:
    """Use standard input as the control socket and serve."""
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    if len(sys.argv) > 1:
        start_attendant(control, sys.argv[1])
    # gVisor sends SIGHUP to a process group whenever one of its processes ends while another is stopped: a census that
    # stops everything would end what it inspects. Every process started from here inherits this setting.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if len(sys.argv) > 1 else signal.SIG_DFL)
    shed_capabilities(KEEP)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    control.send(b'{"ready": true}')
    Init(control).run()


if __name__ == "__main__":
    main()
