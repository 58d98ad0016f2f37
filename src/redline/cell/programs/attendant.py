"""Attendant: the harness's hands and eyes in a node that the machine cannot see into (gVisor, Docker).

Runs as uid 0 of the cell, beside the agent and out of its reach, and speaks frames over one byte stream: channel (4
bytes), kind (1), length (4), payload. It runs programs with power over the node, connects to what listens there, binds
the tether's socket and attests who speaks on it, and sends signals. When the stream ends, or the harness is silent for
longer than the lease, it kills everything in the node. Standard library only.
"""

from __future__ import annotations

import array
import contextlib
import errno
import functools
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
import traceback
import types

from redline.cell.programs.prelude import (
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    is_running,
    libc,
    openat2_in_root,
    shed_capabilities,
    stat_fields,
)

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HEADER = struct.Struct(">IBI")
(BEAT, JOIN, CONNECT, LISTEN, DATA, END, CLOSE, CREDIT, WRITE, RELEASE, SIGNAL) = range(11)
READY, ANSWER, OPENED, FAILED, ACCEPTED = range(20, 25)
# Channels that this side opens, for accepted connections, lie above those that the harness opens.
FIRST_OWN_CHANNEL = 1 << 31
WINDOW = 1 << 18
CHUNK = 1 << 15
STREAM_READ = 1 << 18
MAX_ACCEPTED = 256
MAX_ANCESTORS = 64
MAX_DESCRIPTORS = 200
POLL_SECONDS = 0.25
BACKLOG = 1024
LONGEST_SOCKET_PATH = 100
PROGRAMS_KEPT = 16

# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, SETGID, SETUID, SYS_PTRACE: to look, to install, to kill.
CAPABILITIES = sum(1 << number for number in (0, 1, 2, 3, 5, 6, 7, 19))


# --- what joined programs are given ---


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below a folder without following any link; works also where a filter denies openat2."""
    try:
        return openat2_in_root(root_fd, path, flags, mode)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return open_by_steps(root_fd, path, flags | (0 if flags & os.O_PATH else os.O_NONBLOCK), mode)


def open_by_steps(root_fd: int, path: str, flags: int, mode: int) -> int:
    """Does the same where there is no openat2 or a filter denies it: one name after the other, none of them a link."""
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
    """Refuses: here a program is in the node's namespaces already."""
    raise OSError(errno.EPERM, "a program in the node joins no namespace")


def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yields (node, pid) of every process here, this program and its children among them."""
    ((node, _),) = inits.items()
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield node, int(name)


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def compiled(program: str) -> types.CodeType:
    """A program as code: compiled here once, and not in every fork."""
    return compile(program, "<joined>", "exec")


def run_program(message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Runs a program's text in this fork."""
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
    """Runs a program and sends its answer: a memory file of JSON, and the descriptors that belong to it."""
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


def process_of(thread: int) -> int:
    """The process that a thread belongs to: gVisor's credentials name the thread that sent, Linux's the process.

    Read from folders of numbers alone: gVisor prints a process's name into `status` with its line feeds, so any line
    of that text can be the agent's. Returns 0, which is nobody, where it is not sure.
    """
    try:
        group = {int(name) for name in os.listdir(f"/proc/{thread}/task")}
        if len(group) > 1 or thread not in group:
            # Of a process's threads, /proc lists the first alone, also when that has ended.
            group &= {int(name) for name in os.listdir("/proc") if name.isdigit()}
    except (OSError, ValueError):
        return 0
    return group.pop() if len(group) == 1 else 0


def sender_identity(thread: int, passed: bool) -> bytes:
    """Describes who sent a message, with the length of the description in front."""
    pid = process_of(thread) if thread > 0 else 0
    fields = stat_fields(pid) if pid > 0 else []
    ancestors: list[list[int]] = []
    above = fields
    while above and len(ancestors) < MAX_ANCESTORS:
        parent = int(above[1])
        above = stat_fields(parent) if parent else []
        if above:
            ancestors.append([parent, int(above[19])])
    start = int(fields[19]) if fields else None
    text = json.dumps({"pid": pid, "start": start, "ancestors": ancestors, "passed": passed}).encode()
    return len(text).to_bytes(4, "big") + text


# --- what the loop serves ---


class Link:
    """A connection inside that is passed on over the stream, a window's worth at a time in each direction."""

    def __init__(self, number: int, made: socket.socket, connector: int | None = None) -> None:
        """Passes `made` on as a channel; `connector` is who connected, or spoke last, for connections of the tether."""
        self.number, self.socket, self.connector = number, made, connector
        self.credit = WINDOW
        self.waiting = bytearray()
        self.connecting = False
        self.deadline = 0.0
        self.ended_out = False
        self.ended_in = False

    @property
    def events(self) -> int:
        """What to wait for."""
        wanted = 0
        if not self.connecting and self.credit > 0 and not self.ended_in:
            wanted |= select.EPOLLIN
        if self.connecting or self.waiting:
            wanted |= select.EPOLLOUT
        return wanted

    def receive(self) -> bytes | None:
        """What arrived, as a payload; empty at the end, None where nothing is there yet."""
        try:
            if self.connector is None:
                return self.socket.recv(min(CHUNK, self.credit))
            # Room for the credentials alone: the kernel drops passed descriptors that have no room, and says so.
            data, ancillary, flags, _ = self.socket.recvmsg(CHUNK, socket.CMSG_SPACE(12), socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""
        pid, passed = 0, bool(flags & socket.MSG_CTRUNC)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = struct.unpack("3i", payload)[0]
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed = True
                for (fd,) in struct.iter_unpack("i", payload[: len(payload) // 4 * 4]):
                    os.close(fd)
        if not data:
            return b""
        self.connector = process_of(pid) if pid > 0 else 0
        return sender_identity(pid, passed) + data


def connect_to_path(made: socket.socket, path: str) -> int:
    """Begins to connect to a unix socket, an abstract one for `@NAME`. Returns the error number."""
    if path.startswith("@"):
        return made.connect_ex(b"\0" + os.fsencode(path[1:]))
    root = os.open("/", os.O_PATH)
    try:
        place = open_in_root(root, path, os.O_PATH)
        is_socket = stat.S_ISSOCK(os.fstat(place).st_mode)
        os.close(place)
    finally:
        os.close(root)
    if not is_socket:
        return errno.ECONNREFUSED
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return made.connect_ex(path)
    # A socket that was bound by a short path can lie at one that is too long for an address.
    os.chdir(os.path.dirname(path))
    try:
        return made.connect_ex("./" + os.path.basename(path))
    finally:
        os.chdir("/")


class Work:
    """A program that runs in a fork."""

    def __init__(self, number: int, pid: int, channel: socket.socket, deadline: float) -> None:
        """Waits on `channel` for its answer."""
        self.number, self.pid, self.channel, self.deadline = number, pid, channel, deadline


class Attendant:
    """The loop: the stream, links, listeners, programs, and the lease."""

    def __init__(self, receive_fd: int, send_fd: int, lease: float | None, node: str) -> None:
        """Serves the stream of which these are the two directions."""
        self.receive_fd, self.send_fd, self.lease, self.node = receive_fd, send_fd, lease, node
        for fd in {receive_fd, send_fd}:
            os.set_blocking(fd, False)
        self.poll = select.epoll()
        self.watched: dict[int, int] = {}
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.links: dict[int, Link] = {}
        self.by_fd: dict[int, Link | Work | socket.socket] = {}
        self.listeners: dict[int, int] = {}
        self.pending: dict[int, tuple[dict[str, Any], int]] = {}
        self.held: dict[int, int] = {}
        self.next_handle = 1
        self.next_channel = FIRST_OWN_CHANNEL
        self.heard = time.clock_gettime(time.CLOCK_BOOTTIME)

    # The loop

    def run(self) -> None:
        """Serves until the stream ends or the harness is late."""
        self.say(0, READY, b"")
        while True:
            self.watch(self.receive_fd, select.EPOLLIN)
            if self.outgoing:
                self.watch(self.send_fd, select.EPOLLOUT | (select.EPOLLIN if self.send_fd == self.receive_fd else 0))
            elif self.send_fd != self.receive_fd:
                self.watch(self.send_fd, 0)
            for link in self.links.values():
                self.watch(link.socket.fileno(), link.events)
            # Cut short by a signal after its time, a look says that nothing waits, whatever does: so one looks again.
            for fd, events in self.poll.poll(POLL_SECONDS) or self.poll.poll(0):
                if fd == self.send_fd and events & select.EPOLLOUT:
                    self.flush()
                if fd == self.receive_fd and events & ~select.EPOLLOUT:
                    if not self.take():
                        return
                elif fd in self.by_fd:
                    self.attend(self.by_fd[fd], events)
            self.reap()
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            if self.lease is not None and now - self.heard > self.lease:
                return
            self.end_the_late()

    def watch(self, fd: int, events: int) -> None:
        """Waits for events of a descriptor, for none where it is 0."""
        before = self.watched.get(fd, 0)
        if before == events:
            return
        if before == 0:
            self.poll.register(fd, events)
        elif events == 0:
            self.poll.unregister(fd)
        else:
            self.poll.modify(fd, events)
        self.watched[fd] = events

    def forget(self, fd: int) -> None:
        """Stops watching a descriptor that is about to be closed."""
        if self.watched.pop(fd, 0):
            with contextlib.suppress(OSError):
                self.poll.unregister(fd)
        self.by_fd.pop(fd, None)

    def say(self, channel: int, kind: int, payload: bytes) -> None:
        """Sends a frame."""
        self.outgoing += HEADER.pack(channel, kind, len(payload)) + payload
        self.flush()

    def flush(self) -> None:
        """Sends what the stream takes."""
        while self.outgoing:
            try:
                sent = os.write(self.send_fd, memoryview(self.outgoing)[:STREAM_READ])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # the end of the stream shows where it is read
            del self.outgoing[:sent]

    def take(self) -> bool:
        """Reads the stream and serves its whole frames. False at its end."""
        try:
            data = os.read(self.receive_fd, STREAM_READ)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        self.incoming += data
        self.heard = time.clock_gettime(time.CLOCK_BOOTTIME)
        position = 0
        while len(self.incoming) - position >= HEADER.size:
            channel, kind, length = HEADER.unpack_from(self.incoming, position)
            if len(self.incoming) - position - HEADER.size < length:
                break
            position += HEADER.size
            self.serve(channel, kind, bytes(self.incoming[position : position + length]))
            position += length
        del self.incoming[:position]
        return True

    def serve(self, channel: int, kind: int, payload: bytes) -> None:
        """Carries out one frame."""
        try:
            if kind == JOIN:
                self.join(channel, json.loads(payload))
            elif kind == CONNECT:
                self.connect(channel, json.loads(payload))
            elif kind == LISTEN:
                self.listen(channel, json.loads(payload)["path"])
            elif kind == DATA:
                self.more(channel, payload)
            elif kind in (END, CLOSE, CREDIT):
                self.manage(channel, kind, payload)
            elif kind in (WRITE, RELEASE, SIGNAL):
                self.act(kind, payload)
                self.say(channel, ANSWER, b'{"answer": {}, "held": []}')
        except Exception as error:
            self.fail(channel, error)

    def manage(self, channel: int, kind: int, payload: bytes) -> None:
        """Carries out what the harness says about a connection."""
        link = self.links.get(channel)
        if link is None:
            return
        if kind == CREDIT:
            link.credit += int.from_bytes(payload, "big")
            return
        link.ended_out = True
        self.pass_on(link)
        if kind == CLOSE and channel in self.links:
            self.drop(link)

    def act(self, kind: int, payload: bytes) -> None:
        """Carries out what is done at once."""
        if kind == WRITE:
            self.write(payload)
        elif kind == RELEASE:
            for handle in json.loads(payload):
                os.close(self.held.pop(handle))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, int.from_bytes(payload, "big"))

    def fail(self, channel: int, error: Exception) -> None:
        """Says that an operation failed."""
        number = getattr(error, "errno", None)
        self.say(channel, FAILED, json.dumps({"errno": number, "what": f"{type(error).__name__}: {error}"}).encode())

    # Programs

    def join(self, channel: int, message: dict[str, Any]) -> None:
        """Starts a program once its data is there."""
        if message["data"] is None:
            self.start(channel, message, None)
            return
        body = os.memfd_create("data")
        if message["data"] == 0:
            self.start(channel, message, body)
        else:
            self.pending[channel] = (message, body)

    def more(self, channel: int, payload: bytes) -> None:
        """Takes data: of a program that is yet to start, or for a connection."""
        if channel in self.pending:
            message, body = self.pending[channel]
            view = memoryview(payload)
            while view:
                view = view[os.write(body, view) :]
            if os.fstat(body).st_size >= message["data"]:
                del self.pending[channel]
                self.start(channel, message, body)
        elif channel in self.links:
            link = self.links[channel]
            link.waiting += payload
            self.pass_on(link)

    def start(self, channel: int, message: dict[str, Any], body: int | None) -> None:
        """Runs a program in a fork."""
        fds = [self.held[handle] for handle in message["held"]] + ([] if body is None else [body])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(SyntaxError, ValueError):  # the fork, which meets it again, tells the harness
            compiled(message["program"])
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                answer_in_fork(message, fds, theirs)
            finally:
                os._exit(0)
        theirs.close()
        if body is not None:
            os.close(body)
        ours.setblocking(False)
        work = Work(channel, pid, ours, time.monotonic() + message["timeout"] + 1.0)
        self.by_fd[ours.fileno()] = work
        self.watch(ours.fileno(), select.EPOLLIN)

    def finish(self, work: Work) -> None:
        """Passes a program's answer on and keeps its descriptors."""
        fds = array.array("i")
        try:
            message, ancillary, _, _ = work.channel.recvmsg(1, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4))
        except BlockingIOError:
            return
        except OSError:
            message, ancillary = b"", []
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        self.forget(work.channel.fileno())
        work.channel.close()
        if not message or not fds:
            self.say(work.number, FAILED, b'{"errno": null, "what": "the program ended without an answer"}')
            return
        body, *made = list(fds)
        with open(body, "rb") as file:
            file.seek(0)
            answer = file.read()
        handles = []
        for fd in made:
            self.held[self.next_handle] = fd
            handles.append(self.next_handle)
            self.next_handle += 1
        self.say(work.number, ANSWER, answer[:-1] + b', "held": ' + json.dumps(handles).encode() + b"}")

    def write(self, payload: bytes) -> None:
        """Writes to a held file."""
        handle, offset = struct.unpack_from(">QQ", payload)
        rest = memoryview(payload)[16:]
        while rest:
            count = os.pwrite(self.held[handle], rest, offset)
            rest, offset = rest[count:], offset + count

    def reap(self) -> None:
        """Collects ended programs."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def end_the_late(self) -> None:
        """Ends programs and connections that take too long."""
        now = time.monotonic()
        for thing in list(self.by_fd.values()):
            if isinstance(thing, Work) and now > thing.deadline:
                with contextlib.suppress(ProcessLookupError):  # it has ended, its answer is yet to be fetched
                    os.kill(thing.pid, signal.SIGKILL)
                thing.deadline = now + 1.0
            elif isinstance(thing, Link) and thing.connecting and now > thing.deadline:
                self.drop(thing)
                self.fail(thing.number, TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    # Connections

    def connect(self, channel: int, message: dict[str, Any]) -> None:
        """Connects to a listener inside."""
        path = message.get("path")
        if path is not None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            family = socket.AF_INET6 if ":" in message["address"] else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        link = Link(channel, made)
        try:
            number = connect_to_path(made, path) if path else made.connect_ex((message["address"], message["port"]))
        except (OSError, ValueError) as error:
            made.close()
            # A name that no address can hold has no error number of its own.
            raise OSError(getattr(error, "errno", None) or errno.EINVAL, str(error)) from error
        if number not in (0, errno.EINPROGRESS, errno.EAGAIN):
            made.close()
            raise OSError(number, os.strerror(number))
        self.links[channel] = link
        self.by_fd[made.fileno()] = link
        if number == 0:
            self.say(channel, OPENED, b"")
        else:
            link.connecting, link.deadline = True, time.monotonic() + message["timeout"]

    def listen(self, channel: int, path: str) -> None:
        """Binds a socket for the agent's processes."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        # Set before any connection exists, so that each has it from its first byte on.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(BACKLOG)
        self.by_fd[listener.fileno()] = listener
        self.listeners[listener.fileno()] = channel
        self.watch(listener.fileno(), select.EPOLLIN)
        self.say(channel, OPENED, b"")

    def accept(self, listener: socket.socket) -> None:
        """Takes a connection in, and sheds one of whoever has most where there are too many."""
        try:
            made, _ = listener.accept()
        except OSError:
            return
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        connector = process_of(struct.unpack("3i", made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
        if connector == os.getpid():
            connector = 0  # gVisor names whoever asks: who connected is not known before something is sent
        accepted = [link for link in self.links.values() if link.connector is not None]
        if len(accepted) >= MAX_ACCEPTED:
            many: dict[int, list[Link]] = {}
            for link in accepted:
                many.setdefault(link.connector or 0, []).append(link)
            doomed = max(many.values(), key=len)[0]
            self.drop(doomed)
            self.say(doomed.number, CLOSE, b"")
        link = Link(self.next_channel, made, connector)
        self.next_channel += 1
        self.links[link.number] = link
        self.by_fd[made.fileno()] = link
        hello = {"listener": self.listeners[listener.fileno()], "connector": connector}
        self.say(link.number, ACCEPTED, json.dumps(hello).encode())

    def attend(self, thing: Link | Work | socket.socket, events: int) -> None:
        """Serves what is ready."""
        if isinstance(thing, Work):
            self.finish(thing)
        elif isinstance(thing, socket.socket):
            self.accept(thing)
        elif thing.connecting:
            self.connected(thing)
        else:
            if events & select.EPOLLOUT:
                self.pass_on(thing)
            if events & ~select.EPOLLOUT and thing.number in self.links:
                self.fetch(thing)

    def connected(self, link: Link) -> None:
        """Says how an attempt to connect ended."""
        number = link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.drop(link)
            self.fail(link.number, OSError(number, os.strerror(number)))
        else:
            link.connecting = False
            self.say(link.number, OPENED, b"")

    def fetch(self, link: Link) -> None:
        """Passes what arrived on to the harness."""
        payload = link.receive() if link.credit > 0 and not link.ended_in else None
        if payload is None:
            if link.ended_in:  # hung up in both directions
                self.drop(link)
                self.say(link.number, CLOSE, b"")
            return
        if payload:
            link.credit -= len(payload)
            self.say(link.number, DATA, payload)
        else:
            link.ended_in = True
            self.say(link.number, END, b"")

    def pass_on(self, link: Link) -> None:
        """Passes what the harness sent on to the peer."""
        sent = 0
        try:
            while link.waiting:
                count = link.socket.send(link.waiting, socket.MSG_NOSIGNAL)
                del link.waiting[:count]
                sent += count
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.drop(link)
            self.say(link.number, CLOSE, b"")
            return
        if sent:
            self.say(link.number, CREDIT, sent.to_bytes(4, "big"))
        if link.ended_out and not link.waiting:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_WR)

    def drop(self, link: Link) -> None:
        """Closes a connection."""
        self.links.pop(link.number, None)
        self.forget(link.socket.fileno())
        link.socket.close()


def main(receive_fd: int, send_fd: int, lease: float | None, node: str) -> None:
    """Serves, and kills everything in the node when that ends, however it ends."""
    try:
        shed_capabilities(CAPABILITIES)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        Attendant(receive_fd, send_fd, lease, node).run()
    finally:
        for _ in range(3):
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(1, signal.SIGTERM)


if __name__ == "__main__":
    own_node, *own_lease = sys.argv[1:]
    main(0, 1, float(own_lease[0]) if own_lease else None, own_node)
