"""Sockets of a cell, a part of the census program: listening addresses, and the bytes in socket buffers.

`/proc/net/unix` prints the path of a socket as its owner chose it, line feeds included, so its rows can be forged. The
program therefore queries the kernel over sock_diag, whose records have lengths. Where that is impossible (inside a
cell), it reads the table in a way that lets a forged row add an address but never replace or remove one: TCP listeners
come from tables that hold numbers only, and a path that leads to no socket is searched among the node's socket files.
"""

# ruff: noqa: PLR2004 - the numbers compared with are positions and sizes of fields, see proc(5) and sock_diag(7)
from __future__ import annotations

import os
import re
import socket
import stat
import struct
import time

from redline.verify.programs.census_base import Id, join_namespace, openat2_in_root

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


CLONE_NEWNET = 0x40000000
# A dump of sockets, see netlink(7) and sock_diag(7): the message header, the requests, and the record of a socket.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 0x1, 0x300, 2, 3
NETLINK_HEADER = struct.Struct("=IH10x")
NETLINK_REQUEST = struct.Struct("=IHHII")
INET_REQUEST = struct.Struct("=BBBxI48x")
INET_SOCKET = struct.Struct("=xB2xH2x16s44xI")
UNIX_REQUEST = struct.Struct("=BBHIIIII")
UNIX_SOCKET = struct.Struct("=xBBxI8x")
ATTRIBUTE = struct.Struct("=HH")
ANY_STATE = 0xFFFFFFFF
TCP_LISTEN = 10
INET_DIAG_SKMEMINFO = 7
UDIAG_SHOW_NAME, UDIAG_SHOW_VFS, UDIAG_SHOW_RQLEN = 1, 2, 16
UNIX_DIAG_NAME, UNIX_DIAG_VFS, UNIX_DIAG_RQLEN = 0, 1, 4
DIAG_BUFFER = 2**17
# Of a queue of datagrams, the kernel reports only the first one's length. DATAGRAMS may wait, each of a buffer's size.
DATAGRAMS, USUAL_BUFFER = 11, 212_992
# Maximum bytes in one unix socket whose buffers cannot be read, with the usual net.core.wmem_max. A process can hold
# more where that is raised, but counting the raised limit for each socket would make a few sockets suspicious.
MAX_IN_UNIX_SOCKET = 425_984
UNIX_ROW = re.compile(
    rb"^[0-9a-f]{16}: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} [0-9A-F]{2} +([0-9]+)(?: (.*))?$"
)
UNIX_ACCEPTS = 0x10000
MAX_SOCKET_FILES, MAX_SOCKET_ENTRIES = 64, 50_000
# The search for socket files comes last, so it gets this time even if the search of content used all of the census's.
MIN_SOCKET_SEARCH_SECONDS = 2.0
ADDRESS_LIMIT = 240
ADDRESSES_OF_ONE_SOCKET = 16


class UnixListener:
    """A listening unix socket, as its own record describes it."""

    def __init__(self, name: bytes, file: Id | None) -> None:
        """Store the bound name and the identity of the file, where the kernel reports it."""
        self.name, self.file = name, file


class SocketTable:
    """The sockets of a cell at one time."""

    def __init__(self) -> None:
        """Initialise an empty table."""
        self.tcp: dict[int, str] = {}
        self.unix: dict[int, list[UnixListener]] = {}
        self.bytes = 0
        """Bytes in socket buffers; where these cannot be read, the default size of the buffers."""
        self.max_queued = 0
        """Maximum bytes in queues of datagrams; the kernel's own memory bounds them."""

    @property
    def listening(self) -> set[int]:
        """Return the inodes of all listening sockets."""
        return {*self.tcp, *self.unix}


def socket_table(request: dict[str, Any], *, buffers: bool) -> SocketTable:
    """Return the sockets of the cell's network namespaces.

    If `buffers`, the bytes in all of them are counted.
    """
    table = SocketTable()
    for init in request["inits"].values():
        if not request["inside"]:
            try:
                recorded = sockets_from_diag(request["proc"], init, buffers=buffers)
            except OSError:
                pass  # a kernel without sock_diag: its tables are read, on the assumption that rows can be forged
            else:
                table.tcp.update(recorded.tcp)
                table.unix.update(recorded.unix)
                table.bytes += recorded.bytes
                table.max_queued += recorded.max_queued
                continue
        table.tcp.update(tcp_listeners_from_proc(request["proc"], init))
        add_unix_sockets_from_proc(table, request["proc"], init)
        if buffers:
            table.bytes += table_bytes(request["proc"], init, ("tcp", "tcp6", "udp", "udp6"))
    return table


def sockets_from_diag(proc: str, init: int, *, buffers: bool) -> SocketTable:
    """Enter the network namespace of a process and return its sockets as the kernel records them.

    Raises:
        OSError: The kernel was built without sock_diag.
    """
    enter_network(proc, init)
    table = SocketTable()
    table.tcp = tcp_listeners_from_diag()
    add_unix_sockets_from_diag(table)
    if buffers:
        # To find the connections of one namespace, the kernel iterates over those of the whole host, which takes
        # milliseconds. Usually every socket in use is a listener, which holds no bytes.
        if tcp_in_use(proc, init) != len(table.tcp):
            table.bytes += tcp_bytes()
        table.bytes += table_bytes(proc, init, ("udp", "udp6"))
    return table


# --- TCP --------------------


def enter_network(proc: str, init: int) -> None:
    """Enter the network namespace of a process."""
    network = os.open(f"{proc}/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        join_namespace(network, CLONE_NEWNET)
    finally:
        os.close(network)


def socket_rows(proc: str, init: int, table: str) -> Iterator[list[bytes]]:
    """Yield the fields of each row of a table of numbers; skip rows of any other form."""
    for line in read_whole(f"{proc}/{init}/net/{table}").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and re.fullmatch(rb"[0-9A-F]{8}(?:[0-9A-F]{24})?:[0-9A-F]{4}", fields[1]):
            yield fields


def read_whole(path: str, limit: int = 2**24) -> bytes:
    """Return the start of a file of /proc, empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def tcp_listeners_from_proc(proc: str, init: int) -> dict[int, str]:
    """Return the TCP listeners that the tables of /proc contain."""
    found = {}
    for table, family in (("tcp", "tcp4"), ("tcp6", "tcp6")):
        for fields in socket_rows(proc, init, table):
            if fields[3] == b"0A" and fields[9].isdigit():
                address, _, port = fields[1].decode().partition(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                found[int(fields[9])] = f"{family}:{readable_address(b''.join(words))}:{int(port, 16)}"
    return found


def table_bytes(proc: str, init: int, tables: tuple[str, ...]) -> int:
    """Return the bytes in the sockets' queues according to the tables, which hold numbers only."""
    found = 0
    for table in tables:
        for fields in socket_rows(proc, init, table):
            # For a listening socket, these columns count connections.
            if fields[3] != b"0A" and (queues := re.fullmatch(rb"([0-9A-F]{8}):([0-9A-F]{8})", fields[4])):
                found += int(queues.group(1), 16) + int(queues.group(2), 16)
    return found


def tcp_listeners_from_diag() -> dict[int, str]:
    """Return the TCP listeners that sock_diag reports in the current network namespace."""
    found = {}
    for family, name, size in ((socket.AF_INET, "tcp4", 4), (socket.AF_INET6, "tcp6", 16)):
        for port, address, inode in diag_tcp_listeners(family):
            found[inode] = f"{name}:{readable_address(address[:size])}:{port}"
    return found


def diag_tcp_listeners(family: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (port, address, inode) of the listening TCP sockets of a family in the current network namespace."""
    for record in diag_records(INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)):
        _, port, address, inode = INET_SOCKET.unpack_from(record)
        yield socket.ntohs(port), address, inode


def tcp_in_use(proc: str, init: int) -> int | None:
    """Return how many TCP sockets of a network namespace listen or have a connection; None if it is not reported."""
    counts = []
    for table, name in (("sockstat", b"TCP"), ("sockstat6", b"TCP6")):
        if table == "sockstat6" and not os.path.exists(f"{proc}/{init}/net/{table}"):
            continue  # a kernel without IPv6
        count = re.search(rb"^" + name + rb": inuse (\d+)", read_whole(f"{proc}/{init}/net/{table}"), re.MULTILINE)
        if count is None:
            return None
        counts.append(int(count.group(1)))
    return sum(counts)


def tcp_bytes() -> int:
    """Return the bytes in the buffers of the TCP sockets of the current network namespace."""
    found = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        request = INET_REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_SKMEMINFO - 1), ANY_STATE)
        for record in diag_records(request):
            memory = attributes(record, INET_SOCKET.size).get(INET_DIAG_SKMEMINFO, b"")
            figures = struct.unpack(f"={len(memory) // 4}I", memory[: len(memory) // 4 * 4])
            # Bytes received, sent and not yet taken, queued to send, and in the backlog; see SK_MEMINFO_VARS.
            found += sum(figures[at] for at in (0, 2, 5, 7) if at < len(figures))
    return found


def readable_address(raw: bytes) -> str:
    """Return an address in its usual notation; IPv6 without abbreviation."""
    if len(raw) == 4:
        return ".".join(str(byte) for byte in raw)
    return "[" + ":".join(raw[i : i + 2].hex() for i in range(0, 16, 2)) + "]"


# --- sock_diag --------------------


def diag_records(request: bytes) -> Iterator[bytes]:
    """Yield the kernel's records that answer a sock_diag request.

    Raises:
        OSError: The kernel refuses the request, or its answer has an unknown form.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        size = NETLINK_REQUEST.size + len(request)
        kernel.send(NETLINK_REQUEST.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + request)
        while True:
            data = kernel.recv(DIAG_BUFFER)
            while data:
                try:
                    length, kind = NETLINK_HEADER.unpack_from(data)
                    # The payload of both kinds begins with an error number, which is 0 or negative.
                    number = struct.unpack_from("=i", data, 16)[0] if kind in (NLMSG_ERROR, NLMSG_DONE) else 0
                except struct.error as error:
                    raise OSError("sock_diag: " + str(error)) from error
                if number:
                    raise OSError(-number, "sock_diag")
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    return
                yield data[NETLINK_HEADER.size : length]
                data = data[max(NETLINK_HEADER.size, (length + 3) & ~3) :]


def attributes(record: bytes, at: int) -> dict[int, bytes]:
    """Return the attributes that follow the fixed part of a record."""
    found = {}
    while at + ATTRIBUTE.size <= len(record):
        length, kind = ATTRIBUTE.unpack_from(record, at)
        if length < ATTRIBUTE.size:
            break
        found[kind] = record[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


# --- unix sockets --------------------


def add_unix_sockets_from_diag(table: SocketTable) -> None:
    """Add the unix sockets of the current network namespace, including those in flight, as the kernel records them."""
    show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN
    allowed = read_whole("/proc/sys/net/core/wmem_max").strip()
    largest = max(USUAL_BUFFER, int(allowed) if allowed.isdigit() else 0)
    request = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ANY_STATE, 0, show, ANY_STATE, ANY_STATE)
    for record in diag_records(request):
        kind, state, inode = UNIX_SOCKET.unpack_from(record)
        reported = attributes(record, UNIX_SOCKET.size)
        if state == TCP_LISTEN:
            file = None
            if len(reported.get(UNIX_DIAG_VFS, b"")) >= 8:
                node, device = struct.unpack_from("=II", reported[UNIX_DIAG_VFS])
                file = (os.makedev(device >> 20, device & 0xFFFFF), node)
            name = reported.get(UNIX_DIAG_NAME, b"")
            # The kernel ends the name of a file with a zero byte; a name that begins with one is abstract.
            name = name if name.startswith(b"\0") else name.partition(b"\0")[0]
            table.unix.setdefault(inode, []).append(UnixListener(name, file))
        elif len(reported.get(UNIX_DIAG_RQLEN, b"")) >= 4:
            (waiting,) = struct.unpack_from("=I", reported[UNIX_DIAG_RQLEN])
            is_exact = kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET) or not waiting
            if is_exact:
                table.bytes += waiting
            else:
                table.max_queued += DATAGRAMS * 2 * largest


def add_unix_sockets_from_proc(table: SocketTable, proc: str, init: int) -> None:
    """Add the unix sockets of a table with forgeable rows: a row can add an address but never replace one."""
    gvisor = os.path.exists(proc + "/sentry-meminfo")
    for line in read_whole(f"{proc}/{init}/net/unix").split(b"\n")[1:]:
        row = UNIX_ROW.match(line)
        if row is None:
            continue  # what follows a line feed in a name
        flags, inode, name = int(row.group(1), 16), int(row.group(2)), row.group(3) or b""
        if not flags & UNIX_ACCEPTS:
            # gVisor reports its own memory as a whole; elsewhere, no file reports what waits in a socket.
            table.bytes += 0 if gvisor else MAX_IN_UNIX_SOCKET
            continue
        known = table.unix.setdefault(inode, [])
        if len(known) < ADDRESSES_OF_ONE_SOCKET:
            known.append(UnixListener(name, None))
            if name.startswith(b"@"):
                known.append(UnixListener(b"\0" + name[1:], None))  # the table shows a file of that name the same way


class UnixAddresses:
    """Finds the path at which a unix socket can be reached now, under any name that it was bound to."""

    def __init__(self, roots: dict[str, int], mounts: list[Any], deadline: float) -> None:
        """Search below the roots of the nodes, and for moved sockets on their writable mounts, until the deadline."""
        self.roots, self.mounts, self.deadline = roots, mounts, deadline
        self.files: dict[str, dict[Id, str]] = {}
        self.incomplete: list[str] = []

    def of(self, base: str, node: str, listeners: list[UnixListener]) -> list[str]:
        """Return the addresses of a socket that a process holds; `unix:` alone if no path leads to it."""
        found: list[str] = []
        for one in listeners:
            if one.name.startswith(b"\0"):
                found.append("unix:@" + escaped(one.name[1:]))
            elif one.name or one.file:
                found += ["unix:" + escaped(path) for path in self.paths(base, node, one)]
        return list(dict.fromkeys(found)) or ["unix:"]

    def paths(self, base: str, node: str, listener: UnixListener) -> list[str]:
        """Return the possible paths of a socket's file; only one where the kernel reports the file's identity."""
        path = os.fsdecode(listener.name)
        if listener.name and not path.startswith("/"):
            try:
                path = os.readlink(base + "/cwd").rstrip("/") + "/" + path
            except OSError:
                path = ""
        there = self.socket_at(node, path) if path else None
        if listener.file is not None:
            moved = self.socket_files(node).get(listener.file) if there != listener.file else path
            return [moved] if moved is not None else []
        # A row of the table ends at a line feed of its path and does not identify the file. If there is no socket at
        # that path, every socket file that the row could mean is challenged.
        files = self.socket_files(node).values()
        others = [file for file in files if there is None or file.startswith(path + "\n")]
        return ([path] if there is not None else []) + others[:ADDRESSES_OF_ONE_SOCKET]

    def socket_at(self, node: str, path: str) -> Id | None:
        """Return the identity of the socket file at a path."""
        try:
            fd = openat2_in_root(self.roots[node], path.lstrip("/") or ".", os.O_PATH)
        except (OSError, KeyError, ValueError):
            return None
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None

    def socket_files(self, node: str) -> dict[Id, str]:
        """Return the socket files on the writable mounts of a node, which are searched once, on first use."""
        if node not in self.files:
            self.files[node] = {}
            deadline = max(self.deadline, time.monotonic() + MIN_SOCKET_SEARCH_SECONDS)
            entries = MAX_SOCKET_ENTRIES
            for mount in [one for one in self.mounts if one.node == node]:
                entries = self.search(mount, self.files[node], entries, deadline)
        return self.files[node]

    def search(self, mount: Any, found: dict[Id, str], entries: int, deadline: float) -> int:
        """Add the socket files of a mount. Return how many entries may still be inspected."""
        waiting = ["."]
        while waiting:
            folder = waiting.pop()
            try:
                fd = openat2_in_root(mount.fd, folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # removed, or too deep for a path, so no process can connect there either
            try:
                with os.scandir(fd) as below:
                    for entry in below:
                        entries -= 1
                        if entries < 0 or time.monotonic() > deadline or len(found) >= MAX_SOCKET_FILES:
                            self.incomplete.append("socket files")
                            return 0
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(folder + "/" + entry.name)
                            continue
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISSOCK(status.st_mode):
                            path = mount.path.rstrip("/") + (folder + "/" + entry.name)[1:]
                            found[status.st_dev, status.st_ino] = path
            except OSError:
                continue
            finally:
                os.close(fd)
        return entries


def escaped(name: str | bytes) -> str:
    """Return a name of any bytes as reversible printable ASCII; see `redline.verify.challenge`."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x5C else f"\\x{byte:02x}"
        for byte in (os.fsencode(name) if isinstance(name, str) else name)
    )
