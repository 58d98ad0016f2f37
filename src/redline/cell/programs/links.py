"""Connections in a node that an attendant carries over its stream, and their senders. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import stat
import struct

from redline.cell.programs.frames import CHUNK, WINDOW
from redline.cell.programs.inside import open_in_root
from redline.cell.programs.prelude import stat_fields

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

MAX_ANCESTORS = 64
LONGEST_SOCKET_PATH = 100
BACKLOG = 1024


def process_of(thread: int) -> int:
    """Return the process of a thread: gVisor's credentials name the thread that sent, Linux's the process.

    Only listings of numbers are read: gVisor prints a process's name into `status` with its line feeds, so the agent
    can forge any line of that text. Return 0, which is no process, if the listings do not agree.
    """
    try:
        group = {int(name) for name in os.listdir(f"/proc/{thread}/task")}
        if len(group) > 1 or thread not in group:
            # Of a process's threads, /proc lists only the first, even after it has ended.
            group &= {int(name) for name in os.listdir("/proc") if name.isdigit()}
    except (OSError, ValueError):
        return 0
    return group.pop() if len(group) == 1 else 0


def sender_identity(thread: int, passed: bool) -> bytes:
    """Return a description of the sender of a message, after the length of the description."""
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


class Link:
    """A connection inside that the stream carries, with at most a window of unacknowledged data in each direction."""

    def __init__(self, number: int, made: socket.socket, connector: int | None = None) -> None:
        """Initialise the channel of a socket.

        Args:
            number: Number of the channel.
            made: The socket.
            connector: For a connection of the tether, the process that connected or sent last.
        """
        self.number, self.socket, self.connector = number, made, connector
        self.credit = WINDOW
        self.waiting = bytearray()
        self.connecting = False
        self.deadline = 0.0
        self.ended_out = False
        self.ended_in = False

    @property
    def events(self) -> int:
        """Events to wait for."""
        wanted = 0
        if not self.connecting and self.credit > 0 and not self.ended_in:
            wanted |= select.EPOLLIN
        if self.connecting or self.waiting:
            wanted |= select.EPOLLOUT
        return wanted

    def receive(self) -> bytes | None:
        """Return what arrived, as a payload; empty at the end, None if nothing has arrived yet."""
        try:
            if self.connector is None:
                return self.socket.recv(min(CHUNK, self.credit))
            # Room for the credentials only: the kernel drops passed descriptors without room, and sets MSG_CTRUNC.
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
    """Begin to connect to a unix socket, an abstract one for `@NAME`. Return the error number."""
    if path.startswith("@"):
        return made.connect_ex(b"\0" + os.fsencode(path[1:]))
    root = os.open("/", os.O_PATH)
    try:
        found = open_in_root(root, path, os.O_PATH)
        is_socket = stat.S_ISSOCK(os.fstat(found).st_mode)
        os.close(found)
    finally:
        os.close(root)
    if not is_socket:
        return errno.ECONNREFUSED
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return made.connect_ex(path)
    # A socket bound by a short relative path can have a full path that is too long for an address.
    os.chdir(os.path.dirname(path))
    try:
        return made.connect_ex("./" + os.path.basename(path))
    finally:
        os.chdir("/")


def begin_to_connect(message: dict[str, Any]) -> tuple[socket.socket, bool]:
    """Begin to connect to a listener inside; return the socket and whether it is connected already.

    Raises:
        OSError: It cannot be connected.
    """
    path = message.get("path")
    if path is not None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        family = socket.AF_INET6 if ":" in message["address"] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        number = connect_to_path(made, path) if path else made.connect_ex((message["address"], message["port"]))
    except (OSError, ValueError) as error:
        made.close()
        # A name that no address can hold has no error number of its own.
        raise OSError(getattr(error, "errno", None) or errno.EINVAL, str(error)) from error
    if number not in (0, errno.EINPROGRESS, errno.EAGAIN):
        made.close()
        raise OSError(number, os.strerror(number))
    return made, number == 0


def listen_at(path: str) -> socket.socket:
    """Bind a unix socket to which the agent's processes can connect."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    # Set before any connection exists, so that each has it from its first byte on.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(BACKLOG)
    return listener


def connector_of(accepted: socket.socket) -> int:
    """Return the process that made a connection; 0 if the kernel does not name it.

    gVisor names the process that asks, so the connector is not known there before it sends something.
    """
    credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    connector = process_of(struct.unpack("3i", credentials)[0])
    return 0 if connector == os.getpid() else connector
