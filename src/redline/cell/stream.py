"""The harness's end of an attendant's stream: a thread that sends and receives its frames.

A thread of its own serves the stream, so that connections and the lease continue whatever the event loop is doing and
whichever task is being cancelled.
"""

import contextlib
import itertools
import json
import os
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from redline.cell.programs.frames import (
    ACCEPTED,
    ANSWER,
    BEAT,
    CHUNK,
    CLOSE,
    CREDIT,
    DATA,
    END,
    FAILED,
    HEADER,
    OPENED,
    READY,
    STREAM_READ,
    WINDOW,
)
from redline.cell.reading import rates

BEAT_SECONDS = 0.5
CLOSE_SECONDS = 10.0
MAX_FRAME = 256 << 20
PACKET = CHUNK + (1 << 13)
"""Size of the longest packet: data and the description of its sender."""


@dataclass
class Call:
    """A request that waits for its answer; the end of the pipe `read` signals that it has arrived."""

    read: int
    write: int
    kind: int = -1
    payload: bytes = b""


@dataclass
class Link:
    """A connection inside, and the end of the local socket pair that represents it."""

    number: int
    ours: socket.socket
    packets: bool
    credit: int = WINDOW
    waiting: deque[bytes] = field(default_factory=deque)
    ended_out: bool = False
    """The caller sends no more."""
    ended_in: bool = False
    """The peer sends no more."""
    closing: bool = False
    """The peer is gone: close once everything that waits is sent."""

    @property
    def events(self) -> int:
        """Events to wait for."""
        wanted = 0
        if self.credit > 0 and not self.ended_out and not self.closing:
            wanted |= select.POLLIN
        if self.waiting:
            wanted |= select.POLLOUT
        return wanted


class Stream:
    """Both directions of an attendant's stream, with the calls, connections and endpoints on it."""

    def __init__(self, name: str, receive_fd: int, send_fd: int) -> None:
        """Start the thread; it owns both descriptors (which may be one) and closes them at the end.

        Args:
            name: Name of the thread.
            receive_fd: Descriptor to read from.
            send_fd: Descriptor to write to.
        """
        self._receive_fd, self._send_fd = receive_fd, send_fd
        for fd in {receive_fd, send_fd}:
            os.set_blocking(fd, False)
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._links: dict[int, Link] = {}
        self._endpoints: dict[int, socket.socket] = {}
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._lock = threading.Lock()
        self._ended = False
        self._over = False
        self._frames = rates().attendant.frames()
        self._rest_until = 0.0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.ready = self.new_call(0)
        """The call that the attendant's first frame answers."""
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""
        return self._ended

    def new_number(self) -> int:
        """Return the number of a new channel."""
        return next(self._numbers)

    def new_call(self, number: int) -> Call:
        """Return a call that the next answer on a channel completes; at once if the stream has ended."""
        call = Call(*os.pipe())
        with self._lock:
            if self._ended:
                os.close(call.write)
            else:
                self._calls[number] = call
        return call

    def add_connection(self, number: int, ours: socket.socket) -> None:
        """Pass a socket on as a channel; the stream owns it from now on."""
        link = Link(number, ours, packets=False)
        with self._lock:
            self._links[number] = link

    def add_endpoint(self, number: int, ours: socket.socket) -> None:
        """Hand the connections that an endpoint inside accepts to a socket; the stream owns it from now on."""
        with self._lock:
            self._endpoints[number] = ours

    def post(self, channel: int, kind: int, payload: bytes) -> None:
        """Queue a frame."""
        frame = HEADER.pack(channel, kind, len(payload)) + payload
        with self._lock:
            self._outgoing += frame
        self._wake()

    def close(self) -> None:
        """End the stream, and with it everything in the node."""
        with self._lock:
            self._ended = True
        self._wake()
        self._thread.join(CLOSE_SECONDS)

    def _wake(self) -> None:
        with self._lock:
            if not self._over:
                with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups that are not served yet
                    os.write(self._wake_write, b"!")

    # --- the thread ---

    def _serve(self) -> None:
        try:
            self._loop()
        except (OSError, ValueError, KeyError):
            pass  # a broken stream, or frames that no attendant sends, end everything, like the end of the stream
        finally:
            self._finish()

    def _loop(self) -> None:
        last_beat = 0.0
        while True:
            with self._lock:
                if self._ended:
                    return
                if time.monotonic() - last_beat > BEAT_SECONDS and not self._outgoing:
                    last_beat = time.monotonic()
                    self._outgoing += HEADER.pack(0, BEAT, 0)
                poll, owners = self._poll()
            for fd, events in poll.poll(self._poll_seconds() * 1000):
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                if fd == self._send_fd and events & ~select.POLLIN:
                    self._flush()
                if fd == self._receive_fd and events & ~select.POLLOUT:
                    if not self._take():
                        return
                elif fd in owners:
                    self._serve_link(owners[fd], events)

    def _poll_seconds(self) -> float:
        """Return the time until a beat is due or a pause in reading ends."""
        rest = self._rest_until - time.monotonic()
        return min(BEAT_SECONDS, rest) if rest > 0 else BEAT_SECONDS

    def _poll(self) -> tuple[select.poll, dict[int, Link]]:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        # A cell that exceeds its rate waits: its frames stay in the stream, which fills up.
        reads = select.POLLIN if time.monotonic() >= self._rest_until else 0
        poll.register(self._receive_fd, reads)
        if self._outgoing:
            both = reads if self._send_fd == self._receive_fd else 0
            poll.register(self._send_fd, select.POLLOUT | both)
        owners = {}
        for link in self._links.values():
            poll.register(link.ours.fileno(), link.events)
            owners[link.ours.fileno()] = link
        return poll, owners

    def _flush(self) -> None:
        with self._lock:
            try:
                sent = os.write(self._send_fd, memoryview(self._outgoing)[:STREAM_READ])
            except BlockingIOError:
                return
            del self._outgoing[:sent]

    def _take(self) -> bool:
        try:
            data = os.read(self._receive_fd, STREAM_READ)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._incoming += data
        position, frames = 0, 0
        while len(self._incoming) - position >= HEADER.size:
            channel, kind, length = HEADER.unpack_from(self._incoming, position)
            if length > MAX_FRAME:
                raise OSError("a frame exceeds the limit")
            if len(self._incoming) - position - HEADER.size < length:
                break
            position += HEADER.size
            self._on_frame(channel, kind, bytes(self._incoming[position : position + length]))
            position += length
            frames += 1
        del self._incoming[:position]
        self._rest_until = time.monotonic() + self._frames.take(frames)
        return True

    def _on_frame(self, channel: int, kind: int, payload: bytes) -> None:
        if kind in (READY, ANSWER, OPENED, FAILED):
            if kind == FAILED and channel in self._links:
                self._drop(self._links[channel])
            with self._lock:
                call = self._calls.pop(channel, None)
            if call is not None:
                call.kind, call.payload = kind, payload
                os.close(call.write)
        elif kind == ACCEPTED:
            self._accept(channel, json.loads(payload))
        elif channel in self._links:
            link = self._links[channel]
            if kind == DATA:
                link.waiting.append(payload)
            elif kind == CREDIT:
                link.credit += int.from_bytes(payload, "big")
            elif kind == END:
                link.ended_in = True
            elif kind == CLOSE:
                link.closing = True
            self._pass_on(link)

    def _accept(self, channel: int, hello: dict[str, int]) -> None:
        endpoint = self._endpoints.get(hello["listener"])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                if endpoint is None:
                    raise OSError("no listener owns that endpoint")
                socket.send_fds(
                    endpoint, [json.dumps({"connector": hello["connector"]}).encode()], [theirs.fileno()],
                    socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
                )  # fmt: skip
            except OSError:  # the broker is gone, or hundreds of connections behind
                ours.close()
                self.post(channel, CLOSE, b"")
                return
        with self._lock:
            self._links[channel] = Link(channel, ours, packets=True)

    def _serve_link(self, link: Link, events: int) -> None:
        if link.number not in self._links:
            return
        if events & select.POLLOUT:
            self._pass_on(link)
        if link.number in self._links and events & select.POLLIN:
            self._fetch(link)
        elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) and link.number in self._links:
            self._drop(link)
            self.post(link.number, CLOSE, b"")

    def _fetch(self, link: Link) -> None:
        """Send what the caller sent to the peer."""
        try:
            data = link.ours.recv(PACKET if link.packets else min(CHUNK, link.credit))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            link.credit -= len(data)
            self.post(link.number, DATA, data)
        else:
            link.ended_out = True
            self.post(link.number, END, b"")
            self._close_if_done(link)

    def _pass_on(self, link: Link) -> None:
        """Send what the peer sent to the caller."""
        sent = 0
        try:
            while link.waiting:
                first = link.waiting[0]
                count = link.ours.send(first, socket.MSG_NOSIGNAL)
                sent += count
                if count == len(first):
                    link.waiting.popleft()
                else:
                    link.waiting[0] = first[count:]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # the caller is gone
            self._drop(link)
            self.post(link.number, CLOSE, b"")
            return
        if sent and not link.closing:
            self.post(link.number, CREDIT, sent.to_bytes(4, "big"))
        self._close_if_done(link)

    def _close_if_done(self, link: Link) -> None:
        if link.waiting:
            return
        if link.closing:
            self._drop(link)
        elif link.ended_in:
            with contextlib.suppress(OSError):
                link.ours.shutdown(socket.SHUT_WR)
            if link.ended_out:
                self._drop(link)
                self.post(link.number, CLOSE, b"")

    def _drop(self, link: Link) -> None:
        with self._lock:
            self._links.pop(link.number, None)
        link.ours.close()

    def _finish(self) -> None:
        """End every call, connection and endpoint."""
        with self._lock:
            self._ended = True
            calls, self._calls = list(self._calls.values()), {}
            links, self._links = list(self._links.values()), {}
            endpoints, self._endpoints = list(self._endpoints.values()), {}
            self._over = True
            os.close(self._wake_write)
        for fd in {self._receive_fd, self._send_fd}:
            os.close(fd)
        for call in calls:
            os.close(call.write)
        for made in (*(link.ours for link in links), *endpoints):
            made.close()
        os.close(self._wake_read)
