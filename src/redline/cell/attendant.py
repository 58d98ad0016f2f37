"""The harness's side of an attendant: the program that works inside a node which the machine cannot see into.

A thread of its own serves the stream, so that connections and the lease go on whatever the event loop is doing, and
whichever task is being cancelled. What callers get are ordinary sockets.
"""

import contextlib
import itertools
import json
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from redline.cell.errors import CellError, CellGoneError
from redline.cell.programs.attendant import (
    ACCEPTED,
    ANSWER,
    BEAT,
    CHUNK,
    CLOSE,
    CONNECT,
    CREDIT,
    DATA,
    END,
    FAILED,
    HEADER,
    JOIN,
    LISTEN,
    OPENED,
    READY,
    RELEASE,
    SIGNAL,
    STREAM_READ,
    WINDOW,
    WRITE,
)
from redline.cell.reading import rates

BEAT_SECONDS = 0.5
START_TIMEOUT = 20.0
SPARE_SECONDS = 2.0
CLOSE_SECONDS = 10.0
MAX_FRAME = 256 << 20
WRITE_CHUNK = 1 << 20
PACKET = CHUNK + (1 << 13)
"""Bytes of the longest packet: data and the description of its sender."""


@dataclass
class _Call:
    """A request that waits for its answer; the end of `wake` tells that it is there."""

    read: int
    write: int
    kind: int = -1
    payload: bytes = b""


@dataclass
class _Link:
    """A connection inside, and the local socket pair that stands for it."""

    number: int
    ours: socket.socket
    packets: bool
    credit: int = WINDOW
    waiting: deque[bytes] = field(default_factory=deque)
    ended_out: bool = False
    """Our caller sends no more."""
    ended_in: bool = False
    """The peer sends no more."""
    closing: bool = False
    """The peer is gone: close when all that waits is passed on."""

    @property
    def events(self) -> int:
        wanted = 0
        if self.credit > 0 and not self.ended_out and not self.closing:
            wanted |= select.POLLIN
        if self.waiting:
            wanted |= select.POLLOUT
        return wanted


class Attendant:
    """A running attendant."""

    def __init__(self, node: str, receive_fd: int, send_fd: int, lease: float | None = None) -> None:
        """Takes over both directions of a stream (they may be one descriptor) and closes them at its end.

        Args:
            node: The node that it works in.
            receive_fd: Descriptor to read from.
            send_fd: Descriptor to write to.
            lease: Seconds of silence after which the attendant was told to end everything; only recorded here.
        """
        self.node = node
        self.lease = lease
        self._receive_fd, self._send_fd = receive_fd, send_fd
        for fd in {receive_fd, send_fd}:
            os.set_blocking(fd, False)
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._links: dict[int, _Link] = {}
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
        self._ready = self._new_call(0)
        self._thread = threading.Thread(target=self._serve, name=f"attendant {node}", daemon=True)
        self._thread.start()

    # --- what may be asked of it ---

    async def ready(self) -> None:
        """Waits until it is up.

        Raises:
            CellError: It did not come up.
        """
        try:
            await self._result(self._ready, START_TIMEOUT)
        except (CellGoneError, TimeoutError) as error:
            raise CellError(f"the attendant of node {self.node} did not come up: {error}") from error

    async def join(
        self,
        program: str,
        request: Mapping[str, object],
        *,
        held: Sequence[int] = (),
        data: bytes | None = None,
        timeout: float = 30.0,
    ) -> tuple[dict[str, Any], list[int]]:
        """Runs a program in the node; see `Cell.run_with_cell_privileges`.

        Raises:
            CellError: It raised.
            CellGoneError: The node is gone.
            TimeoutError: It took too long.
        """
        message = {
            "program": program,
            "request": dict(request),
            "held": list(held),
            "data": None if data is None else len(data),
            "timeout": timeout,
            "node": self.node,
        }
        frames = [(JOIN, json.dumps(message).encode())]
        frames += [(DATA, data[at : at + WRITE_CHUNK]) for at in range(0, len(data or b""), WRITE_CHUNK) if data]
        return await self._ask(frames, timeout + SPARE_SECONDS)

    async def write(self, handle: int, offset: int, data: bytes) -> None:
        """Writes to a file that is held inside.

        Raises:
            OSError: As writing raised.
        """
        for at in range(0, len(data), WRITE_CHUNK):
            payload = struct.pack(">QQ", handle, offset + at) + data[at : at + WRITE_CHUNK]
            await self._ask([(WRITE, payload)], START_TIMEOUT)

    async def release(self, handles: Sequence[int]) -> None:
        """Closes files that are held inside."""
        if handles:
            await self._ask([(RELEASE, json.dumps(list(handles)).encode())], START_TIMEOUT)

    @property
    def is_serving(self) -> bool:
        """Whether the stream is still there."""
        return not self._ended

    async def signal(self, number: int) -> None:
        """Sends a signal to every process of the node but the first one and the attendant."""
        await self._ask([(SIGNAL, number.to_bytes(4, "big"))], START_TIMEOUT)

    async def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """Connects to a port inside.

        Raises:
            OSError: Nobody listens, or the node is gone.
            TimeoutError: No answer in time.
        """
        return await self._open({"address": address, "port": port, "timeout": timeout}, timeout)

    async def connect_unix(self, path: str, timeout: float) -> socket.socket:
        """Connects to a unix socket inside; no link in its path is followed."""
        return await self._open({"path": path, "timeout": timeout}, timeout)

    async def listen(self, path: str) -> socket.socket:
        """Binds a unix socket inside on which the agent's processes may connect.

        Returns:
            A SOCK_SEQPACKET socket. Each message is JSON with the pid of who connected, and brings one descriptor, a
            SOCK_SEQPACKET socket: an incoming packet is 4 bytes of length, a JSON description of that length (pid,
            start and ancestors of the sender; whether descriptors were passed), and data of this one sender; outgoing
            packets are data alone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        number = next(self._numbers)
        with self._lock:
            self._endpoints[number] = ours
        try:
            await self._ask([(LISTEN, json.dumps({"path": path}).encode())], START_TIMEOUT, number)
        except BaseException:
            theirs.close()
            raise
        return theirs

    def close(self) -> None:
        """Ends the stream, and with it everything in the node."""
        with self._lock:
            self._ended = True
        self._wake()
        self._thread.join(CLOSE_SECONDS)

    # --- asking ---

    async def _open(self, message: Mapping[str, object], timeout: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        number = next(self._numbers)
        link = _Link(number, ours, packets=False)
        with self._lock:
            self._links[number] = link
        try:
            await self._ask([(CONNECT, json.dumps(message).encode())], timeout + SPARE_SECONDS, number)
        except BaseException as error:
            theirs.close()  # the link ends by that
            if isinstance(error, CellGoneError):
                raise ConnectionResetError(str(error)) from error
            raise
        return theirs

    async def _ask(
        self, frames: Sequence[tuple[int, bytes]], timeout: float, number: int | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        number = next(self._numbers) if number is None else number
        call = self._new_call(number)
        for kind, payload in frames:
            self._post(number, kind, payload)
        return await self._result(call, timeout)

    def _new_call(self, number: int) -> _Call:
        call = _Call(*os.pipe())
        with self._lock:
            if self._ended:
                os.close(call.write)
            else:
                self._calls[number] = call
        return call

    async def _result(self, call: _Call, timeout: float) -> tuple[dict[str, Any], list[int]]:
        try:
            with anyio.fail_after(timeout):
                await anyio.wait_readable(call.read)
        finally:
            anyio.notify_closing(call.read)
            os.close(call.read)
        if call.kind == FAILED:
            said = json.loads(call.payload)
            if said["errno"] is not None:
                raise OSError(said["errno"], os.strerror(said["errno"]))
            raise CellError(said["what"])
        if call.kind != ANSWER:
            if call.kind in (OPENED, READY):
                return {}, []
            raise CellGoneError(f"the attendant of node {self.node} is gone")
        answer = json.loads(call.payload)
        if "error" in answer:
            error = CellError(answer["error"])
            error.add_note(str(answer.get("detail", "")))
            raise error
        return answer["answer"], answer["held"]

    def _post(self, channel: int, kind: int, payload: bytes) -> None:
        frame = HEADER.pack(channel, kind, len(payload)) + payload
        with self._lock:
            self._outgoing += frame
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if not self._over:
                with contextlib.suppress(BlockingIOError):  # full of wake-ups that are yet to be served
                    os.write(self._wake_write, b"!")

    # --- the thread ---

    def _serve(self) -> None:
        try:
            self._loop()
        except (OSError, ValueError, KeyError):
            pass  # the stream broke, or brings what no attendant says: the end of everything, as its end is
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
                    self._attend(owners[fd], events)

    def _poll_seconds(self) -> float:
        """Time until something is due of this side's own: a beat, or the end of a rest."""
        rest = self._rest_until - time.monotonic()
        return min(BEAT_SECONDS, rest) if rest > 0 else BEAT_SECONDS

    def _poll(self) -> tuple[select.poll, dict[int, _Link]]:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        # A cell that sends beyond its rate waits: what it has sent stays in the stream, which takes no more then.
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
                raise OSError("a frame without bounds")
            if len(self._incoming) - position - HEADER.size < length:
                break
            position += HEADER.size
            self._hear(channel, kind, bytes(self._incoming[position : position + length]))
            position += length
            frames += 1
        del self._incoming[:position]
        self._rest_until = time.monotonic() + self._frames.take(frames)
        return True

    def _hear(self, channel: int, kind: int, payload: bytes) -> None:
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
                    raise OSError("nobody waits at that endpoint")
                socket.send_fds(
                    endpoint, [json.dumps({"connector": hello["connector"]}).encode()], [theirs.fileno()],
                    socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
                )  # fmt: skip
            except OSError:  # the broker is gone, or so far behind that it has hundreds to take in
                ours.close()
                self._post(channel, CLOSE, b"")
                return
        with self._lock:
            self._links[channel] = _Link(channel, ours, packets=True)

    def _attend(self, link: _Link, events: int) -> None:
        if link.number not in self._links:
            return
        if events & select.POLLOUT:
            self._pass_on(link)
        if link.number in self._links and events & select.POLLIN:
            self._fetch(link)
        elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) and link.number in self._links:
            self._drop(link)
            self._post(link.number, CLOSE, b"")

    def _fetch(self, link: _Link) -> None:
        """Passes what our caller sent on to the peer."""
        try:
            data = link.ours.recv(PACKET if link.packets else min(CHUNK, link.credit))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            link.credit -= len(data)
            self._post(link.number, DATA, data)
        else:
            link.ended_out = True
            self._post(link.number, END, b"")
            self._close_if_done(link)

    def _pass_on(self, link: _Link) -> None:
        """Passes what the peer sent on to our caller."""
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
        except OSError:  # our caller is gone
            self._drop(link)
            self._post(link.number, CLOSE, b"")
            return
        if sent and not link.closing:
            self._post(link.number, CREDIT, sent.to_bytes(4, "big"))
        self._close_if_done(link)

    def _close_if_done(self, link: _Link) -> None:
        if link.waiting:
            return
        if link.closing:
            self._drop(link)
        elif link.ended_in:
            with contextlib.suppress(OSError):
                link.ours.shutdown(socket.SHUT_WR)
            if link.ended_out:
                self._drop(link)
                self._post(link.number, CLOSE, b"")

    def _drop(self, link: _Link) -> None:
        with self._lock:
            self._links.pop(link.number, None)
        link.ours.close()

    def _finish(self) -> None:
        """Lets everybody know that it is over."""
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
