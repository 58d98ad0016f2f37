"""Attendant: observes and acts for the harness in a node that the host cannot see into (gVisor, Docker).

Runs as uid 0 of the cell, out of the agent's reach, and exchanges frames over one byte stream. It runs programs with
power over the node, connects to listeners, binds the tether's socket and attests who sends on it, and sends signals.
When the stream ends, or the harness is silent for longer than the lease, it kills everything in the node. Standard
library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time

from redline.cell.programs.frames import (
    ACCEPTED,
    ANSWER,
    CLOSE,
    CONNECT,
    CREDIT,
    DATA,
    END,
    FAILED,
    FIRST_OWN_CHANNEL,
    HEADER,
    JOIN,
    LISTEN,
    OPENED,
    READY,
    RELEASE,
    SIGNAL,
    STREAM_READ,
    WRITE,
)
from redline.cell.programs.inside import Work, receive_answer, start_program
from redline.cell.programs.lease import Lease
from redline.cell.programs.links import Link, begin_to_connect, connector_of, listen_at
from redline.cell.programs.prelude import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, libc, shed_capabilities

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

MAX_ACCEPTED = 256
POLL_SECONDS = 0.25
# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, SETGID, SETUID, SYS_PTRACE: to inspect, to install, to kill.
CAPABILITIES = sum(1 << number for number in (0, 1, 2, 3, 5, 6, 7, 19))


class Attendant:
    """The loop: the stream, connections, listeners, programs, and the lease."""

    def __init__(self, receive_fd: int, send_fd: int, lease: Lease | None, node: str) -> None:
        """Serve the stream whose two directions are the given descriptors."""
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

    # The loop

    def run(self) -> None:
        """Serve until the stream ends or the harness is late."""
        self.send(0, READY, b"")
        while True:
            self.watch(self.receive_fd, select.EPOLLIN)
            if self.outgoing:
                self.watch(self.send_fd, select.EPOLLOUT | (select.EPOLLIN if self.send_fd == self.receive_fd else 0))
            elif self.send_fd != self.receive_fd:
                self.watch(self.send_fd, 0)
            for link in self.links.values():
                self.watch(link.socket.fileno(), link.events)
            # A poll that a signal interrupts after its time returns nothing even if something is ready: so poll again.
            for fd, events in self.poll.poll(POLL_SECONDS) or self.poll.poll(0):
                if fd == self.send_fd and events & select.EPOLLOUT:
                    self.flush()
                if fd == self.receive_fd and events & ~select.EPOLLOUT:
                    if not self.take():
                        return
                elif fd in self.by_fd:
                    self.serve_ready(self.by_fd[fd], events)
            self.reap()
            if self.lease is not None and self.lease.has_expired():
                return
            self.end_expired()

    def watch(self, fd: int, events: int) -> None:
        """Wait for events of a descriptor; for none if `events` is 0."""
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
        """Stop watching a descriptor that is about to be closed."""
        if self.watched.pop(fd, 0):
            with contextlib.suppress(OSError):
                self.poll.unregister(fd)
        self.by_fd.pop(fd, None)

    def send(self, channel: int, kind: int, payload: bytes) -> None:
        """Send a frame."""
        self.outgoing += HEADER.pack(channel, kind, len(payload)) + payload
        self.flush()

    def flush(self) -> None:
        """Send what the stream takes."""
        while self.outgoing:
            try:
                sent = os.write(self.send_fd, memoryview(self.outgoing)[:STREAM_READ])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # reading shows the end of the stream
            del self.outgoing[:sent]

    def take(self) -> bool:
        """Read the stream and serve its complete frames. Return False at its end."""
        try:
            data = os.read(self.receive_fd, STREAM_READ)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        self.incoming += data
        if self.lease is not None:
            self.lease.renew()
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
        """Carry out one frame."""
        try:
            if kind == JOIN:
                self.join(channel, json.loads(payload))
            elif kind == CONNECT:
                self.connect(channel, json.loads(payload))
            elif kind == LISTEN:
                self.listen(channel, json.loads(payload)["path"])
            elif kind == DATA:
                self.take_data(channel, payload)
            elif kind in (END, CLOSE, CREDIT):
                self.serve_link(channel, kind, payload)
            elif kind in (WRITE, RELEASE, SIGNAL):
                self.serve_at_once(kind, payload)
                self.send(channel, ANSWER, b'{"answer": {}, "held": []}')
        except Exception as error:
            self.fail(channel, error)

    def serve_link(self, channel: int, kind: int, payload: bytes) -> None:
        """Carry out a frame about a connection."""
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

    def serve_at_once(self, kind: int, payload: bytes) -> None:
        """Carry out an operation that needs no waiting."""
        if kind == WRITE:
            self.write(payload)
        elif kind == RELEASE:
            for handle in json.loads(payload):
                os.close(self.held.pop(handle))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, int.from_bytes(payload, "big"))

    def fail(self, channel: int, error: Exception) -> None:
        """Report that an operation failed."""
        number = getattr(error, "errno", None)
        self.send(channel, FAILED, json.dumps({"errno": number, "what": f"{type(error).__name__}: {error}"}).encode())

    # Programs

    def join(self, channel: int, message: dict[str, Any]) -> None:
        """Start a program once its data has arrived."""
        if message["data"] is None:
            self.start(channel, message, None)
            return
        body = os.memfd_create("data")
        if message["data"] == 0:
            self.start(channel, message, body)
        else:
            self.pending[channel] = (message, body)

    def take_data(self, channel: int, payload: bytes) -> None:
        """Take data of a program that has not started yet, or for a connection."""
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
        """Run a program in a fork."""
        fds = [self.held[handle] for handle in message["held"]] + ([] if body is None else [body])
        pid, answers = start_program(message, fds)
        if body is not None:
            os.close(body)
        self.by_fd[answers.fileno()] = Work(channel, pid, answers, time.monotonic() + message["timeout"] + 1.0)
        self.watch(answers.fileno(), select.EPOLLIN)

    def finish(self, work: Work) -> None:
        """Send a program's answer to the harness and keep its descriptors."""
        try:
            fds = receive_answer(work.channel)
        except BlockingIOError:
            return
        self.forget(work.channel.fileno())
        work.channel.close()
        if not fds:
            self.send(work.number, FAILED, b'{"errno": null, "what": "the program ended without an answer"}')
            return
        body, *made = fds
        with open(body, "rb") as file:
            file.seek(0)
            answer = file.read()
        handles = []
        for fd in made:
            self.held[self.next_handle] = fd
            handles.append(self.next_handle)
            self.next_handle += 1
        self.send(work.number, ANSWER, answer[:-1] + b', "held": ' + json.dumps(handles).encode() + b"}")

    def write(self, payload: bytes) -> None:
        """Write to a held file."""
        handle, offset = struct.unpack_from(">QQ", payload)
        rest = memoryview(payload)[16:]
        while rest:
            count = os.pwrite(self.held[handle], rest, offset)
            rest, offset = rest[count:], offset + count

    def reap(self) -> None:
        """Collect ended programs."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def end_expired(self) -> None:
        """End programs and connections that take too long."""
        now = time.monotonic()
        for served in list(self.by_fd.values()):
            if isinstance(served, Work) and now > served.deadline:
                with contextlib.suppress(ProcessLookupError):  # it has ended, its answer is not yet read
                    os.kill(served.pid, signal.SIGKILL)
                served.deadline = now + 1.0
            elif isinstance(served, Link) and served.connecting and now > served.deadline:
                self.drop(served)
                self.fail(served.number, TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    # Connections

    def connect(self, channel: int, message: dict[str, Any]) -> None:
        """Connect to a listener inside."""
        made, connected = begin_to_connect(message)
        link = self.links[channel] = Link(channel, made)
        self.by_fd[made.fileno()] = link
        if connected:
            self.send(channel, OPENED, b"")
        else:
            link.connecting, link.deadline = True, time.monotonic() + message["timeout"]

    def listen(self, channel: int, path: str) -> None:
        """Bind a socket for the agent's processes."""
        listener = listen_at(path)
        self.by_fd[listener.fileno()] = listener
        self.listeners[listener.fileno()] = channel
        self.watch(listener.fileno(), select.EPOLLIN)
        self.send(channel, OPENED, b"")

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; if there are too many, close one of the process that has most."""
        try:
            made, _ = listener.accept()
        except OSError:
            return
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        connector = connector_of(made)
        accepted = [link for link in self.links.values() if link.connector is not None]
        if len(accepted) >= MAX_ACCEPTED:
            many: dict[int, list[Link]] = {}
            for link in accepted:
                many.setdefault(link.connector or 0, []).append(link)
            doomed = max(many.values(), key=len)[0]
            self.drop(doomed)
            self.send(doomed.number, CLOSE, b"")
        link = Link(self.next_channel, made, connector)
        self.next_channel += 1
        self.links[link.number] = link
        self.by_fd[made.fileno()] = link
        hello = {"listener": self.listeners[listener.fileno()], "connector": connector}
        self.send(link.number, ACCEPTED, json.dumps(hello).encode())

    def serve_ready(self, served: Link | Work | socket.socket, events: int) -> None:
        """Serve what is ready."""
        if isinstance(served, Work):
            self.finish(served)
        elif isinstance(served, socket.socket):
            self.accept(served)
        elif served.connecting:
            self.connected(served)
        else:
            if events & select.EPOLLOUT:
                self.pass_on(served)
            if events & ~select.EPOLLOUT and served.number in self.links:
                self.fetch(served)

    def connected(self, link: Link) -> None:
        """Report how an attempt to connect ended."""
        number = link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.drop(link)
            self.fail(link.number, OSError(number, os.strerror(number)))
        else:
            link.connecting = False
            self.send(link.number, OPENED, b"")

    def fetch(self, link: Link) -> None:
        """Send what arrived to the harness."""
        payload = link.receive() if link.credit > 0 and not link.ended_in else None
        if payload is None:
            if link.ended_in:  # closed in both directions
                self.drop(link)
                self.send(link.number, CLOSE, b"")
            return
        if payload:
            link.credit -= len(payload)
            self.send(link.number, DATA, payload)
        else:
            link.ended_in = True
            self.send(link.number, END, b"")

    def pass_on(self, link: Link) -> None:
        """Send what the harness sent to the peer."""
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
            self.send(link.number, CLOSE, b"")
            return
        if sent:
            self.send(link.number, CREDIT, sent.to_bytes(4, "big"))
        if link.ended_out and not link.waiting:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_WR)

    def drop(self, link: Link) -> None:
        """Close a connection."""
        self.links.pop(link.number, None)
        self.forget(link.socket.fileno())
        link.socket.close()


def main(receive_fd: int, send_fd: int, lease: Lease | None, node: str) -> None:
    """Serve; kill everything in the node afterwards, however the service ended."""
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
    main(0, 1, Lease(float(own_lease[0])) if own_lease else None, own_node)
