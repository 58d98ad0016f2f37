"""Where peers of one node connect to the tether: a socket that the machine binds, or a relay in the cell."""

import array
import contextlib
import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from redline.cell import Cell
from redline.cell.spec import TETHER_FOLDER
from redline.tether.connection import Connection, KernelConnection, RelayedConnection
from redline.tether.identity import NodeFinder

SOCKET_NAME: Final = "accelerator.sock"
_BACKLOG: Final = 1024
_PEER_CREDENTIALS: Final = 12
_ANNOUNCEMENT: Final = 4096


class RelayGoneError(Exception):
    """The relay has ended: nobody can connect any more."""


@dataclass(frozen=True)
class Relay:
    """The relay of a node that the machine cannot see into."""

    socket: socket.socket
    """Announces the connections that it accepted, each with a socket of its packets."""
    clock_behind: float = 0.0
    """Seconds by which the clock of its start times is behind the machine's clock since boot."""


Place = Path | Relay
"""Where a node's peers come in: the path of a socket to bind, or a relay."""


class Endpoint(Protocol):
    """A non-blocking place where peers connect."""

    node: str
    """Node whose processes find it."""
    socket: socket.socket
    """What to wait for."""

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""

    def accept(self) -> Connection:
        """Take one connection. BlockingIOError while there is none, RelayGoneError if none can come any more."""

    def close(self) -> None:
        """Let nobody in any more."""


class BoundEndpoint:
    """A unix socket that the machine binds and the node sees."""

    def __init__(self, node: str, path: Path, finder: NodeFinder) -> None:
        """Bind the socket; connections wait in its backlog."""
        self.node = node
        self.socket = _bind(path)
        self._path = path
        self._finder = finder

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self.socket.fileno() >= 0

    def accept(self) -> Connection:
        """Take one connection."""
        connection, _ = self.socket.accept()
        connection.setblocking(False)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS)
        connector = int.from_bytes(credentials[:4], sys.byteorder, signed=True)
        return KernelConnection(connection, connector, self.node, self._finder)

    def close(self) -> None:
        """Unbind the socket."""
        self.socket.close()
        self._path.unlink(missing_ok=True)


class RelayEndpoint:
    """What the relay of a node hands on: each connection that it accepted, as a socket of packets."""

    def __init__(self, node: str, relay: Relay) -> None:
        """Take over the socket of announcements; it becomes non-blocking."""
        self.node = node
        self.socket = relay.socket
        self.socket.setblocking(False)
        self._clock_behind = relay.clock_behind

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self.socket.fileno() >= 0

    def accept(self) -> Connection:
        """Take one announced connection."""
        while True:
            message, fds = _receive(self.socket)
            if not message:
                _close_all(fds)
                raise RelayGoneError(self.node)
            try:
                connector = int(json.loads(message)["connector"])
                (fd,) = fds
            except (ValueError, KeyError, TypeError):
                _close_all(fds)
                continue  # No descriptor came through: this process has none left. The peer sees its connection end.
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            return RelayedConnection(connection, connector, self.node, self._clock_behind)

    def close(self) -> None:
        """Close the socket; the relay then lets nobody in."""
        self.socket.close()


def _receive(relay: socket.socket) -> tuple[bytes, list[int]]:
    message, ancillary, _, _ = relay.recvmsg(_ANNOUNCEMENT, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return message, list(fds)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # Set before any connection exists, so that each has it from its first byte on.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # By way of a descriptor, since a unix socket's path may have 107 bytes only.
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        path.chmod(0o666)  # The cell's users are others here; who may come near is decided by the folder.
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


_CLOCK: Final = """
import time
def main(request, fds):
    return {"boot": time.clock_gettime(time.CLOCK_BOOTTIME)}, []
"""


async def places_of(cell: Cell) -> dict[str, Place]:
    """Return where the processes of each node of a cell come in.

    Raises:
        CellError: A node that the machine cannot see into does not answer.
    """
    if cell.observer == "outside":
        return {name: node.tether_dir / SOCKET_NAME for name, node in cell.nodes.items()}
    return {name: await _relay(cell, name) for name in cell.nodes}


async def _relay(cell: Cell, node: str) -> Relay:
    answer, _ = await cell.run_with_cell_privileges(_CLOCK, {}, node=node)
    # Taken after the answer: what started before something was said may then pass for later, never the other way round.
    behind = time.clock_gettime(time.CLOCK_BOOTTIME) - answer["boot"]
    return Relay(await cell.attendant(node).listen(f"{TETHER_FOLDER}/{SOCKET_NAME}"), behind)
