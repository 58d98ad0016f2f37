"""Sockets of a cell, a part of the census program: who listens where, and how many bytes wait in socket buffers.

`/proc/net/unix` prints the path of a socket as its owner chose it, line feeds included, so its rows can be forged. The
kernel is asked over sock_diag instead, whose records have lengths. Where it cannot be asked (from inside a cell), the
table is read so that a forged row can add an address and never replace or remove one: TCP listeners come from tables
that hold numbers only, and a path that leads to no socket is looked for among the socket files of the node.
"""

# ruff: noqa: PLR2004 - the numbers compared with are positions and sizes of fields, see proc(5) and sock_diag(7)
from __future__ import annotations

import os
import re
import socket
import stat
import struct
import time

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from redline.verify.programs.census_base import Id, join_namespace, openat2_in_root


CLONE_NEWNET = 0x40000000
# A dump of sockets, see netlink(7) and sock_diag(7): the header of any message, the requests, and one socket.
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
# Of a queue of datagrams the kernel tells the first one's length; this many may wait, each as long as a buffer may be.
DATAGRAMS, USUAL_BUFFER = 11, 212_992
# What waits in one unix socket where its buffers cannot be read, with the usual net.core.wmem_max. Where that is
# raised, and the process asks for more, it may be more; to count that for each would make any few sockets suspect.
MAX_IN_UNIX_SOCKET = 425_984
UNIX_ROW = re.compile(
    rb"^[0-9a-f]{16}: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} [0-9A-F]{2} +([0-9]+)(?: (.*))?$"
)
UNIX_ACCEPTS = 0x10000
MAX_SOCKET_FILES, MAX_SOCKET_ENTRIES, SOCKET_SEARCH_SECONDS = 64, 50_000, 2.0
ADDRESS_LIMIT = 240
ADDRESSES_OF_ONE_SOCKET = 16


class UnixListener:
    """A unix socket that listens, by its own record."""

    def __init__(self, name: bytes, file: Id | None) -> None:
        """Take the name that it is bound to, and the identity of its file where the kernel tells."""
        self.name, self.file = name, file


class SocketTable:
    """The sockets of one look at a cell."""

    def __init__(self) -> None:
        """Start empty."""
        self.tcp: dict[int, str] = {}
        self.unix: dict[int, list[UnixListener]] = {}
        self.bytes = 0
        """Bytes in socket buffers; where they cannot be read, as many as there are room for by default."""
        self.unsure = 0
        """Bytes that may wait in queues of datagrams; no more than the kernel's own memory can."""

    @property
    def listening(self) -> set[int]:
        """Inodes of all sockets that listen."""
        return {*self.tcp, *self.unix}


def socket_table(request: dict[str, Any]) -> SocketTable:
    """Return the sockets of the cell's network namespaces."""
    table = SocketTable()
    for init in request["inits"].values():
        if not request["inside"]:
            try:
                asked = asked_sockets(request["proc"], init)
            except OSError:
                pass  # a kernel without such records: its tables are read with the caution that forged rows call for
            else:
                table.tcp.update(asked.tcp)
                table.unix.update(asked.unix)
                table.bytes += asked.bytes
                table.unsure += asked.unsure
                continue
        table.tcp.update(tabled_tcp_listeners(request["proc"], init))
        add_tabled_unix_sockets(table, request["proc"], init)
        table.bytes += table_bytes(request["proc"], init, ("tcp", "tcp6", "udp", "udp6"))
    return table


def asked_sockets(proc: str, init: int) -> SocketTable:
    """Return the sockets of the network namespace of a process, which this process enters, as the kernel records them.

    It is faster, too: to read the tables of connections takes the kernel milliseconds, since it goes through those of
    the whole machine.

    Raises:
        OSError: The kernel was built without that.
    """
    enter_network(proc, init)
    table = SocketTable()
    table.tcp = asked_tcp_listeners()
    add_unix_sockets(table)
    table.bytes += tcp_bytes() + table_bytes(proc, init, ("udp", "udp6"))
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
    """Yield the fields of each row of a table of numbers; a row of another form is passed over."""
    for line in read_whole(f"{proc}/{init}/net/{table}").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and re.fullmatch(rb"[0-9A-F]{8}(?:[0-9A-F]{24})?:[0-9A-F]{4}", fields[1]):
            yield fields


def read_whole(path: str, limit: int = 2**24) -> bytes:
    """Return what a file of /proc holds, within a bound, empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def tabled_tcp_listeners(proc: str, init: int) -> dict[int, str]:
    """Return them as the tables of /proc have them."""
    found = {}
    for table, family in (("tcp", "tcp4"), ("tcp6", "tcp6")):
        for fields in socket_rows(proc, init, table):
            if fields[3] == b"0A" and fields[9].isdigit():
                address, _, port = fields[1].decode().partition(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                found[int(fields[9])] = f"{family}:{readable_address(b''.join(words))}:{int(port, 16)}"
    return found


def table_bytes(proc: str, init: int, tables: tuple[str, ...]) -> int:
    """Return the bytes that the tables say wait in their sockets' queues; they hold numbers only."""
    found = 0
    for table in tables:
        for fields in socket_rows(proc, init, table):
            # Of a socket that listens, these are connections.
            if fields[3] != b"0A" and (queues := re.fullmatch(rb"([0-9A-F]{8}):([0-9A-F]{8})", fields[4])):
                found += int(queues.group(1), 16) + int(queues.group(2), 16)
    return found


def asked_tcp_listeners() -> dict[int, str]:
    """Return them as sock_diag tells, in the network namespace in which this process is."""
    found = {}
    for family, name, size in ((socket.AF_INET, "tcp4", 4), (socket.AF_INET6, "tcp6", 16)):
        for port, address, inode in dumped_tcp_listeners(family):
            found[inode] = f"{name}:{readable_address(address[:size])}:{port}"
    return found


def dumped_tcp_listeners(family: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (port, address, inode) of the TCP sockets of a family that listen in this network namespace."""
    for record in diag_records(INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)):
        _, port, address, inode = INET_SOCKET.unpack_from(record)
        yield socket.ntohs(port), address, inode


def tcp_bytes() -> int:
    """Return the bytes in the buffers of the TCP sockets of this network namespace."""
    found = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        asked = INET_REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_SKMEMINFO - 1), ANY_STATE)
        for record in diag_records(asked):
            memory = attributes(record, INET_SOCKET.size).get(INET_DIAG_SKMEMINFO, b"")
            figures = struct.unpack(f"={len(memory) // 4}I", memory[: len(memory) // 4 * 4])
            # Received, sent and not yet taken, queued to be sent, and the backlog; see SK_MEMINFO_VARS.
            found += sum(figures[at] for at in (0, 2, 5, 7) if at < len(figures))
    return found


def readable_address(raw: bytes) -> str:
    """Return an address as people write it; IPv6 without abbreviation."""
    if len(raw) == 4:
        return ".".join(str(byte) for byte in raw)
    return "[" + ":".join(raw[i : i + 2].hex() for i in range(0, 16, 2)) + "]"


# --- sock_diag --------------------


def diag_records(asked: bytes) -> Iterator[bytes]:
    """Yield the kernel's records that answer a request of sock_diag.

    Raises:
        OSError: The kernel cannot be asked, or its answer has another form.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        size = NETLINK_REQUEST.size + len(asked)
        kernel.send(NETLINK_REQUEST.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + asked)
        while True:
            data = kernel.recv(DIAG_BUFFER)
            while data:
                try:
                    length, kind = NETLINK_HEADER.unpack_from(data)
                    # Either of these carries an error number, which is 0 or negative.
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


def add_unix_sockets(table: SocketTable) -> None:
    """Add the unix sockets of this network namespace, those in flight among them, as the kernel records them."""
    shown = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN
    allowed = read_whole("/proc/sys/net/core/wmem_max").strip()
    largest = max(USUAL_BUFFER, int(allowed) if allowed.isdigit() else 0)
    asked = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ANY_STATE, 0, shown, ANY_STATE, ANY_STATE)
    for record in diag_records(asked):
        kind, state, inode = UNIX_SOCKET.unpack_from(record)
        told = attributes(record, UNIX_SOCKET.size)
        if state == TCP_LISTEN:
            file = None
            if len(told.get(UNIX_DIAG_VFS, b"")) >= 8:
                node, device = struct.unpack_from("=II", told[UNIX_DIAG_VFS])
                file = (os.makedev(device >> 20, device & 0xFFFFF), node)
            name = told.get(UNIX_DIAG_NAME, b"")
            # The kernel ends the name of a file with a zero byte; a name that begins with one is abstract.
            name = name if name.startswith(b"\0") else name.partition(b"\0")[0]
            table.unix.setdefault(inode, []).append(UnixListener(name, file))
        elif len(told.get(UNIX_DIAG_RQLEN, b"")) >= 4:
            (waiting,) = struct.unpack_from("=I", told[UNIX_DIAG_RQLEN])
            alone = kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET) or not waiting
            if alone:
                table.bytes += waiting
            else:
                table.unsure += DATAGRAMS * 2 * largest


def add_tabled_unix_sockets(table: SocketTable, proc: str, init: int) -> None:
    """Add the unix sockets of a table whose rows may be forged: a row can add an address, and replaces none."""
    gvisor = os.path.exists(proc + "/sentry-meminfo")
    for line in read_whole(f"{proc}/{init}/net/unix").split(b"\n")[1:]:
        row = UNIX_ROW.match(line)
        if row is None:
            continue  # what follows a line feed in a name
        flags, inode, name = int(row.group(1), 16), int(row.group(2)), row.group(3) or b""
        if not flags & UNIX_ACCEPTS:
            # gVisor's own memory is told as a whole; elsewhere nobody tells what waits in a socket.
            table.bytes += 0 if gvisor else MAX_IN_UNIX_SOCKET
            continue
        known = table.unix.setdefault(inode, [])
        if len(known) < ADDRESSES_OF_ONE_SOCKET:
            known.append(UnixListener(name, None))
            if name.startswith(b"@"):
                known.append(UnixListener(b"\0" + name[1:], None))  # the table shows a file of that name alike


class UnixAddresses:
    """Finds at which path a unix socket can be reached now, whatever it was called when it was bound."""

    def __init__(self, roots: dict[str, int], mounts: list[Any]) -> None:
        """Snapshot below the roots of the nodes, and for moved sockets on their writable mounts."""
        self.roots, self.mounts = roots, mounts
        self.files: dict[str, dict[Id, str]] = {}
        self.incomplete: list[str] = []

    def of(self, base: str, node: str, listeners: list[UnixListener]) -> list[str]:
        """Return the addresses of one socket that a process holds; `unix:` alone where nothing leads to it."""
        found: list[str] = []
        for one in listeners:
            if one.name.startswith(b"\0"):
                found.append("unix:@" + escaped(one.name[1:]))
            elif one.name or one.file:
                found += ["unix:" + escaped(path) for path in self.paths(base, node, one)]
        return list(dict.fromkeys(found)) or ["unix:"]

    def paths(self, base: str, node: str, listener: UnixListener) -> list[str]:
        """Return the paths at which a socket's file may be: one where the kernel tells which file it is."""
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
        # A row of the table ends at a line feed of its path, and does not say which file it means: where nothing is at
        # that path, whatever could be meant is asked.
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
        """Return the socket files on the writable mounts of a node, found once when they are first asked for."""
        if node not in self.files:
            self.files[node] = {}
            deadline = time.monotonic() + SOCKET_SEARCH_SECONDS
            entries = MAX_SOCKET_ENTRIES
            for mount in [one for one in self.mounts if one.node == node]:
                entries = self.search(mount, self.files[node], entries, deadline)
        return self.files[node]

    def search(self, mount: Any, found: dict[Id, str], entries: int, deadline: float) -> int:
        """Add the socket files of a mount. Returns how many entries may still be looked at."""
        waiting = ["."]
        while waiting:
            folder = waiting.pop()
            try:
                fd = openat2_in_root(mount.fd, folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # removed, or too deep for a path: nobody connects there by one either
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
    """Return a name of any bytes as printable ASCII from which it can be told again; see `redline.verify.challenge`."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x5C else f"\\x{byte:02x}"
        for byte in (os.fsencode(name) if isinstance(name, str) else name)
    )
