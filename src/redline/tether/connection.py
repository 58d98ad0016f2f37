"""One accepted connection of a peer, with a sender of each message that the peer cannot forge.

If the host sees into the cell, the host's kernel identifies the sender. Otherwise a relay that runs as uid 0 of the
cell attests it, as identified by the cell's own kernel.
"""

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from redline.cell.programs.prelude import start_time
from redline.tether.identity import Ancestor, Caller, NodeFinder, UnknownSenderError, ancestors

READ: Final = 64 * 1024
PACKET: Final = 32 * 1024
"""Maximum bytes of one packet to or from a relay, without its header."""

_MAX_HEADER: Final = 16 * 1024
_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
# Space for the sender's credentials only: the kernel drops passed descriptors without space, and sets MSG_CTRUNC.
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_CREDENTIALS.size)
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Sender(NamedTuple):
    """The process that sent a message. A connection ends when its sender changes."""

    pid: int
    start: int | None
    """Its start time, if that was attested with the message; the host's kernel reports a pid only."""


class Received(NamedTuple):
    """The result of one read: bytes of one sender; empty at the end of the stream."""

    data: bytes
    sender: Sender
    passed: bool
    """Whether descriptors were passed; they are already closed."""


class Connection(Protocol):
    """An accepted, non-blocking connection."""

    connector: int
    """Pid of the process that connected. It limits connections per process and does not identify the sender."""
    socket: socket.socket
    """The socket to wait on."""

    def read(self) -> Received:
        """Read once. Raises BlockingIOError if there is nothing to read, OSError if the peer has closed."""

    def write(self, data: memoryview) -> int:
        """Write once; return the number of bytes written. Raises as `read` does."""

    def caller(self, sender: Sender) -> Caller:
        """Return the sender's process. Raises UnknownSenderError if it has ended or belongs to no node of the cell."""

    def is_still(self, caller: Caller) -> bool:
        """Return whether the sender of the latest message is this process."""

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the ancestors of a sender, nearest first."""

    def latest_start(self, caller: Caller) -> float:
        """Return the latest possible start time of a process, on the host's clock since boot."""

    def close(self) -> None:
        """Close the connection."""


class KernelConnection:
    """A unix socket on which the host's kernel identifies the sender of each message."""

    def __init__(self, connection: socket.socket, connector: int, listener: str, finder: NodeFinder) -> None:
        """Wrap a connection that was accepted at the socket of the node `listener`."""
        self.socket = connection
        self.connector = connector
        self._listener = listener
        self._finder = finder
        self._uid: int | None = None

    def read(self) -> Received:
        """Read once. The kernel does not merge messages of different senders into one read."""
        data, ancillary, flags, _ = self.socket.recvmsg(READ, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        pid, passed = 0, bool(flags & socket.MSG_CTRUNC)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, self._uid, _ = _CREDENTIALS.unpack(payload)
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed = True
                for (fd,) in struct.iter_unpack("i", payload[: len(payload) // 4 * 4]):
                    os.close(fd)
        return Received(data, Sender(pid, None), passed)

    def write(self, data: memoryview) -> int:
        """Write once."""
        return self.socket.send(data, socket.MSG_NOSIGNAL)

    def caller(self, sender: Sender) -> Caller:
        """Identify the process in the host's /proc."""
        start = start_time(sender.pid)
        if start is None:
            raise UnknownSenderError(f"process {sender.pid} is gone")
        return Caller(self._finder.node_of(sender.pid, self._listener, self._uid), sender.pid, start)

    def is_still(self, caller: Caller) -> bool:
        """Return whether this process still exists on the host."""
        return start_time(caller.pid) == caller.start

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the chain of parents from the host's /proc."""
        return ancestors(caller.pid)

    def latest_start(self, caller: Caller) -> float:
        """Return the start time, rounded up, since the kernel reports whole ticks."""
        return (caller.start + 1) / _TICKS_PER_SECOND

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class RelayedConnection:
    """A connection that a relay in the cell accepted: packets with a header that identifies the sender of the data."""

    def __init__(self, connection: socket.socket, connector: int, node: str, clock_lag: float) -> None:
        """Wrap the packet socket of one connection that the relay of a node accepted."""
        self.socket = connection
        self.connector = connector
        self._node = node
        self._clock_lag = clock_lag
        self._ancestors: tuple[Ancestor, ...] = ()
        self._latest: Sender | None = None

    def read(self) -> Received:
        """Read one packet.

        Raises:
            BlockingIOError: No packet has arrived.
            OSError: The data is not a valid packet.
        """
        packet = self.socket.recv(_LENGTH.size + _MAX_HEADER + PACKET)
        if not packet:
            return Received(b"", Sender(0, None), passed=False)
        try:
            (length,) = _LENGTH.unpack_from(packet)
            end = _LENGTH.size + length
            header = json.loads(packet[_LENGTH.size : end])
            sender = Sender(int(header["pid"]), None if header["start"] is None else int(header["start"]))
            chain = tuple(Ancestor(int(pid), int(start)) for pid, start in header["ancestors"])
            passed = bool(header["passed"])
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise OSError(f"not a relay packet: {error}") from error
        self._latest, self._ancestors = sender, chain
        return Received(packet[end:], sender, passed)

    def write(self, data: memoryview) -> int:
        """Write one packet."""
        return self.socket.send(data[:PACKET], socket.MSG_NOSIGNAL)

    def caller(self, sender: Sender) -> Caller:
        """Return the process that the relay attested."""
        if not sender.start:
            raise UnknownSenderError(f"process {sender.pid} is gone")
        return Caller(self._node, sender.pid, sender.start)

    def is_still(self, caller: Caller) -> bool:
        """Return whether the relay attested this process with the latest packet."""
        return self._latest == (caller.pid, caller.start)

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the chain of parents that the relay recorded with the latest packet."""
        return self._ancestors

    def latest_start(self, caller: Caller) -> float:
        """Return the start time, converted from the clock of the relay's node."""
        return (caller.start + 1) / _TICKS_PER_SECOND + self._clock_lag

    def close(self) -> None:
        """Close the packet socket; the relay then closes the connection."""
        self.socket.close()
