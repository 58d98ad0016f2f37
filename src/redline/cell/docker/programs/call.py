"""Run one operation in a Docker node, as the first process does on other runtimes: an engine passes no descriptors.

Started as the node's root with `docker exec`. Standard input is a length (4 bytes), a JSON request of that length and
the operation's input. Standard output is lines: `o` and `e` with a piece of the operation's output or errors in
base64, and at the end `s` with a JSON status. The operations are those of the first process (`/run/commands`); as
there, no process that it starts has a capability, and the agent's user cannot reach this process.
"""

import base64
import ctypes
import json
import os
import select
import signal
import time

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every call some milliseconds
if TYPE_CHECKING:
    from typing import Any

COMMANDS = "/run/commands"
CHUNK = 1 << 16
PIPE_BYTES = 1 << 20
PIECE = 3 << 14
HEADER = 4
PR_SET_DUMPABLE = 4
WHOLE_TREE_SECONDS = 5.0
SPENT = 255
"""Exit code of a program of redline that failed itself."""

libc = ctypes.CDLL(None, use_errno=True)


def commands() -> "dict[str, Any]":
    """Return the functions of the first process, which this program shares."""
    scope: dict[str, Any] = {"__name__": "commands"}
    with open(COMMANDS) as file:
        exec(compile(file.read(), COMMANDS, "exec"), scope)
    return scope


def say(kind: bytes, data: bytes) -> None:
    """Write an output in pieces."""
    for at in range(0, len(data), PIECE):
        write_all(1, kind + b" " + base64.b64encode(data[at : at + PIECE]) + b"\n")


def finish(status: "dict[str, Any]") -> None:
    """Write the status."""
    write_all(1, b"s " + json.dumps(status).encode() + b"\n")


def write_all(fd: int, data: bytes) -> None:
    """Write all data, waiting for a slow reader."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_exactly(fd: int, count: int) -> bytes:
    """Read exactly so many bytes."""
    data = b""
    while len(data) < count:
        chunk = os.read(fd, count - len(data))
        if not chunk:
            raise EOFError("the request is cut off")
        data += chunk
    return data


class Tail:
    """The last bytes of a stream, so that a flood costs no more memory than the limit."""

    def __init__(self, fd: int, limit: int) -> None:
        """Store the descriptor to read and the maximum number of kept bytes."""
        self.fd, self.limit = fd, limit
        self.data = bytearray()
        self.truncated = False
        self.ended = False

    def take(self) -> bool:
        """Read what has arrived. Return False if there is nothing, or the stream has ended."""
        try:
            chunk = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self.ended = True
            return False
        self.data += chunk
        if len(self.data) > 2 * self.limit + CHUNK:
            self.cut()
        return True

    def cut(self) -> None:
        """Drop the head beyond the limit."""
        if len(self.data) > self.limit:
            self.truncated = True
            del self.data[: len(self.data) - self.limit]


class Call:
    """A command or file operation that runs in a child."""

    def __init__(self, request: "dict[str, Any]", scope: "dict[str, Any]") -> None:
        """Prepare the call of a request."""
        self.request, self.scope = request, scope
        self.status = b""
        self.code: int | None = None
        self.late = False

    def start(self) -> int:
        """Fork the child. Return the pid."""
        pipes = [os.pipe() for _ in range(4)]
        theirs = (pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][1])
        pid = os.fork()
        if pid == 0:
            self.become_child(theirs)
        for fd in theirs:
            os.close(fd)
        self.input, self.status_pipe = pipes[0][1], pipes[3][0]
        self.outputs = [Tail(pipes[1][0], self.request["limit"]), Tail(pipes[2][0], self.request["limit"])]
        for fd in (self.input, self.status_pipe, *(tail.fd for tail in self.outputs)):
            os.set_blocking(fd, False)
        return pid

    def become_child(self, fds: "tuple[int, ...]") -> None:
        """Carry out the operation; never return."""
        try:
            if self.request["op"] in ("exec", "text"):
                self.scope["run_command" if self.request["op"] == "exec" else "run_text"](self.request, fds)
            else:
                operation = self.scope["read_file" if self.request["op"] == "read" else "write_file"]
                self.scope["replace_descriptors"](fds)
                self.scope["file_operation"](operation, self.request, (0, 1, 2))
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(SPENT)

    def run(self) -> None:
        """Run the child until it ends or its time is over."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            pid = self.start()
        except OSError as error:
            finish({"error": error.errno})
            return
        timeout = self.request["timeout"]
        deadline = None if timeout is None else time.monotonic() + timeout
        self.serve(pid, wake_read, deadline)
        for tail in self.outputs:
            for _ in range(1 + PIPE_BYTES // CHUNK):  # a daemon may never stop writing
                if not tail.take():
                    break
            self.pass_on(tail)
            tail.cut()
        self.report()

    def serve(self, pid: int, wake: int, deadline: "float | None") -> None:
        """Pass data until the child has ended."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        for tail in self.outputs:
            poll.register(tail.fd, select.POLLIN)
        feed = Feed(self.input, poll)
        while self.code is None:
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0 and not self.late:
                self.late, deadline = True, time.monotonic() + WHOLE_TREE_SECONDS
                self.scope["kill_tree"](pid)
            elif left <= 0:
                return
            ready = dict(poll.poll(min(left, 1.0) * 1000))
            if wake in ready:
                drain(wake)
            for tail in self.outputs:
                if tail.fd in ready and not tail.take() and tail.ended:
                    poll.unregister(tail.fd)
                self.pass_on(tail)
            feed.serve(ready)
            self.reap(pid)

    def pass_on(self, tail: Tail) -> None:
        """Write a file's content as it arrives: unlike an output, it is needed in full, and memory keeps none of it."""
        if self.request["op"] == "read" and tail is self.outputs[0]:
            say(b"o", bytes(tail.data))
            tail.data.clear()

    def reap(self, pid: int) -> None:
        """Record the child's end."""
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            self.code = os.waitstatus_to_exitcode(code)

    def report(self) -> None:
        """Write the result; leave a reader behind if a daemon holds a pipe."""
        try:
            self.status = os.read(self.status_pipe, CHUNK)
        except BlockingIOError:
            self.status = b""
        refused = json.loads(self.status).get("refused") if self.status else None
        held = [tail.fd for tail in self.outputs if not tail.ended]
        if held and not self.late:
            leave_reader(held)
        out, err = self.outputs
        say(b"o", bytes(out.data))
        say(b"e", bytes(err.data))
        finish(
            {
                "returncode": self.code,
                "refused": refused,
                "late": self.late,
                "truncated": any(tail.truncated for tail in self.outputs),
            }
        )


class Feed:
    """The standard input of the child."""

    def __init__(self, target: int, poll: "select.poll") -> None:
        """Pass standard input on to `target`."""
        self.target, self.poll = target, poll
        self.waiting = b""
        self.poll.register(0, select.POLLIN)
        os.set_blocking(0, False)

    def serve(self, ready: "dict[int, int]") -> None:
        """Read or write, whichever is next."""
        if self.target < 0:
            return
        if 0 in ready and not self.waiting:
            try:
                self.waiting = os.read(0, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self.waiting = b""
            self.poll.unregister(0)
            if not self.waiting:
                self.close()
                return
            self.poll.register(self.target, select.POLLOUT)
        if self.waiting:
            try:
                self.waiting = self.waiting[os.write(self.target, self.waiting) :]
            except BlockingIOError:
                return
            except OSError:  # the child reads no more
                self.poll.unregister(self.target)
                self.close()
                return
            if not self.waiting:
                self.poll.unregister(self.target)
                self.poll.register(0, select.POLLIN)

    def close(self) -> None:
        """End the child's input."""
        os.close(self.target)
        self.target = -1


def drain(fd: int) -> None:
    """Discard what has arrived."""
    try:
        while os.read(fd, CHUNK):
            pass
    except BlockingIOError:
        pass


def leave_reader(fds: "list[int]") -> None:
    """Keep reading what daemons write after their call has ended, so that no broken pipe ends them."""
    try:
        if os.fork() != 0:
            return
    except OSError:
        return  # the process limit is reached: the daemons get a broken pipe
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        left = set(fds)
        while left:
            for fd, _ in poll.poll():
                try:
                    ended = not os.read(fd, CHUNK)
                except BlockingIOError:
                    continue
                except OSError:
                    ended = True
                if ended:
                    poll.unregister(fd)
                    left.discard(fd)
    finally:
        os._exit(0)


def spawn(request: "dict[str, Any]", scope: "dict[str, Any]") -> None:
    """Start a daemon, which the node's first process inherits when this program ends."""
    try:
        pid = os.fork()
    except OSError as error:
        finish({"error": error.errno})
        return
    if pid == 0:
        try:
            null = os.open("/dev/null", os.O_RDWR)
            scope["run_command"](request, (null, null, null, null))
        finally:
            os._exit(SPENT)
    say(b"o", b"%d" % pid)
    finish({"returncode": 0, "refused": None, "late": False, "truncated": False})


def kill(request: "dict[str, Any]", scope: "dict[str, Any]") -> None:
    """Kill an abandoned call with all its descendants."""
    for pid, _, _ in scope["process_table"]():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            mine = os.stat(f"/proc/{pid}").st_uid == 0
        except OSError:
            continue
        if mine and pid != os.getpid() and request["token"].encode() in words:
            scope["kill_tree"](pid)
    finish({"returncode": 0, "refused": None, "late": False, "truncated": False})


def main() -> None:
    """Carry out the one operation."""
    scope = commands()
    scope["shed_capabilities"](scope["KEEP"])
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    length = int.from_bytes(read_exactly(0, HEADER), "big")
    request = json.loads(read_exactly(0, length))
    if request["op"] == "spawn":
        spawn(request, scope)
    elif request["op"] == "kill":
        kill(request, scope)
    else:
        Call(request, scope).run()


if __name__ == "__main__":
    main()
