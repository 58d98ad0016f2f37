"""One accepted connection of a peer, and who speaks on it, by the word of somebody the peer cannot mislead.

Where the machine sees into the cell, that is the machine's kernel: it names the sender of each message. Where it does
not, it is a relay that runs as uid 0 of the cell, to which the cell's own kernel names the senders.
"""

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from redline.tether.identity import Ancestor, Caller, NodeFinder, UnknownSenderError, ancestors, start_time

READ: Final = 64 * 1024
PACKET: Final = 32 * 1024
"""Most bytes of one packet to or from a relay, beside its header."""

_MAX_HEADER: Final = 16 * 1024
_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
# Room for the sender's credentials alone: the kernel drops passed descriptors that have no room, and says so.
_ROOM: Final = socket.CMSG_SPACE(_CREDENTIALS.size)
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Sender(NamedTuple):
    """The process that sent something. A change of it ends a connection."""

    pid: int
    start: int | None
    """Its start time, where that was attested with the message; the machine's kernel names a pid only."""


class Received(NamedTuple):
    """What one read brought: bytes of one sender, none at the end of the stream."""

    data: bytes
    sender: Sender
    passed: bool
    """Whether descriptors came along; they are dropped already."""


class Connection(Protocol):
    """An accepted, non-blocking connection."""

    connector: int
    """Who connected: good enough to share out connections, no word on who speaks."""
    socket: socket.socket
    """What to wait for."""

    def read(self) -> Received:
        """Read once. Raises BlockingIOError while there is nothing, OSError where the peer is gone."""

    def write(self, data: memoryview) -> int:
        """Write once; return how much was taken. Raises as `read` does."""

    def caller(self, sender: Sender) -> Caller:
        """Name the process that sent something; UnknownSenderError if it is gone or of no node of the cell."""

    def is_there(self, caller: Caller) -> bool:
        """Whether a process that spoke before, and has just spoken again, is still the same."""

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the processes above a process that has spoken, nearest first."""

    def started(self, caller: Caller) -> float:
        """Return the latest time at which a process can have started, on the machine's clock since boot."""

    def close(self) -> None:
        """Close it."""


class KernelConnection:
    """A unix socket on which the machine's kernel names the sender of each message."""

    def __init__(self, connection: socket.socket, connector: int, listener: str, finder: NodeFinder) -> None:
        """Take over a connection that was accepted at the socket of the node `listener`."""
        self.socket = connection
        self.connector = connector
        self._listener = listener
        self._finder = finder
        self._uid: int | None = None

    def read(self) -> Received:
        """Read once. A read ends where the sender changes: the kernel does not join messages of two."""
        data, ancillary, flags, _ = self.socket.recvmsg(READ, _ROOM, socket.MSG_CMSG_CLOEXEC)
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
        """Name the process by the machine's /proc."""
        start = start_time(sender.pid)
        if start is None:
            raise UnknownSenderError(f"process {sender.pid} is gone")
        return Caller(self._finder.node_of(sender.pid, self._listener, self._uid), sender.pid, start)

    def is_there(self, caller: Caller) -> bool:
        """Whether the machine still has that very process."""
        return start_time(caller.pid) == caller.start

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the chain of parents in the machine's /proc."""
        return ancestors(caller.pid)

    def started(self, caller: Caller) -> float:
        """Return the start time; it was cut off to a tick."""
        return (caller.start + 1) / _TICKS_A_SECOND

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class RelayedConnection:
    """A connection that a relay in the cell accepted: packets whose header says who sent the bytes behind it."""

    def __init__(self, connection: socket.socket, connector: int, node: str, clock_behind: float) -> None:
        """Take over the packets of one connection that the relay of a node accepted."""
        self.socket = connection
        self.connector = connector
        self._node = node
        self._clock_behind = clock_behind
        self._ancestors: tuple[Ancestor, ...] = ()
        self._latest: Sender | None = None

    def read(self) -> Received:
        """Read one packet.

        Raises:
            BlockingIOError: There is none yet.
            OSError: What came is no packet of a relay.
        """
        packet = self.socket.recv(_LENGTH.size + _MAX_HEADER + PACKET)
        if not packet:
            return Received(b"", Sender(0, None), passed=False)
        try:
            (length,) = _LENGTH.unpack_from(packet)
            end = _LENGTH.size + length
            header = json.loads(packet[_LENGTH.size : end])
            sender = Sender(int(header["pid"]), None if header["start"] is None else int(header["start"]))
            above = tuple(Ancestor(int(pid), int(start)) for pid, start in header["ancestors"])
            passed = bool(header["passed"])
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise OSError(f"no packet of a relay: {error}") from error
        self._latest, self._ancestors = sender, above
        return Received(packet[end:], sender, passed)

    def write(self, data: memoryview) -> int:
        """Write one packet."""
        return self.socket.send(data[:PACKET], socket.MSG_NOSIGNAL)

    def caller(self, sender: Sender) -> Caller:
        """Name the process by the relay's word."""
        if not sender.start:
            raise UnknownSenderError(f"process {sender.pid} is gone")
        return Caller(self._node, sender.pid, sender.start)

    def is_there(self, caller: Caller) -> bool:
        """Whether the relay attested that very process with the latest packet."""
        return self._latest == (caller.pid, caller.start)

    def ancestors(self, caller: Caller) -> Sequence[Ancestor]:
        """Return the chain of parents that the relay saw when it took the latest packet."""
        return self._ancestors

    def started(self, caller: Caller) -> float:
        """Return the start time, which the relay tells by the clock of its node."""
        return (caller.start + 1) / _TICKS_A_SECOND + self._clock_behind

    def close(self) -> None:
        """Close the packets' socket; the relay then closes the connection."""
        self.socket.close()
