"""The endpoints of the tether: for each node, a socket that the host binds or a relay in the cell."""

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
    """Raised when the relay has ended, so that no process can connect any more."""


@dataclass(frozen=True)
class Relay:
    """The relay of a node that the host cannot see into."""

    socket: socket.socket
    """Announces each accepted connection and passes a socket for its packets."""
    clock_lag: float = 0.0
    """Seconds by which the clock of its start times lags behind the host's clock since boot."""


ListenAddress = Path | Relay
"""Where the processes of a node connect: the path of a socket to bind, or a relay."""


class Endpoint(Protocol):
    """A non-blocking listener for the processes of one node."""

    node: str
    """Node whose processes can reach it."""
    socket: socket.socket
    """The socket to wait on."""

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""

    def accept(self) -> Connection:
        """Accept one connection. Raises BlockingIOError if none is pending, RelayGoneError if the relay has ended."""

    def close(self) -> None:
        """Stop listening."""


class BoundEndpoint:
    """A unix socket that the host binds and the node sees."""

    def __init__(self, node: str, path: Path, finder: NodeFinder) -> None:
        """Bind the socket. Connections wait in its backlog."""
        self.node = node
        self.socket = _bind(path)
        self._path = path
        self._finder = finder

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self.socket.fileno() >= 0

    def accept(self) -> Connection:
        """Accept one connection."""
        connection, _ = self.socket.accept()
        connection.setblocking(False)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS)
        connector = int.from_bytes(credentials[:4], sys.byteorder, signed=True)
        return KernelConnection(connection, connector, self.node, self._finder)

    def close(self) -> None:
        """Close and remove the socket."""
        self.socket.close()
        self._path.unlink(missing_ok=True)


class RelayEndpoint:
    """The connections that the relay of a node accepts, each passed on as a socket for packets."""

    def __init__(self, node: str, relay: Relay) -> None:
        """Wrap the socket of announcements and make it non-blocking."""
        self.node = node
        self.socket = relay.socket
        self.socket.setblocking(False)
        self._clock_lag = relay.clock_lag

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self.socket.fileno() >= 0

    def accept(self) -> Connection:
        """Accept one announced connection."""
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
                continue  # No descriptor arrived, since this process has none left. The peer sees its connection end.
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            return RelayedConnection(connection, connector, self.node, self._clock_lag)

    def close(self) -> None:
        """Close the socket; the relay then stops listening."""
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
        # Set before any connection exists, so that it applies from the first byte.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # Through a descriptor, since the path of a unix socket is limited to 107 bytes.
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        path.chmod(0o666)  # The cell has other user ids. Access is controlled by the folder.
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


async def listen_addresses(cell: Cell) -> dict[str, ListenAddress]:
    """Return for each node of a cell where its processes connect to the tether.

    Raises:
        CellError: A node that the host cannot see into does not answer.
    """
    if cell.observer == "outside":
        return {name: node.tether_dir / SOCKET_NAME for name, node in cell.nodes.items()}
    return {name: await _relay(cell, name) for name in cell.nodes}


async def _relay(cell: Cell, node: str) -> Relay:
    answer, _ = await cell.run_with_cell_privileges(_CLOCK, {}, node=node)
    # Read after the answer, so that a start time can be estimated too late, never too early.
    lag = time.clock_gettime(time.CLOCK_BOOTTIME) - answer["boot"]
    return Relay(await cell.attendant(node).listen(f"{TETHER_FOLDER}/{SOCKET_NAME}"), lag)
