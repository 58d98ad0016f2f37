"""Inject one harmless defect into a running cell, for the self-test. Runs by `Cell.run_with_cell_privileges`.

Everything that it creates belongs to the cell's own namespaces, or to a network namespace that it creates and that has
no route to the host. It never changes an interface, route or address of the host.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Reply = tuple[dict[str, Any], list[int]]

    # Provided by the caller.

    def join_namespace(fd: int, kind: int) -> None:
        """Enter a namespace."""

    def cell_processes(inits: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yield (node, pid) of every process of the cell."""

    def stat_fields(pid: int) -> list[bytes]:
        """Return the fields of `/proc/PID/stat` after the name: state, parent, …, start time (20th)."""


CLONE_NEWIPC, CLONE_NEWNET = 0x08000000, 0x40000000
RTM_NEWLINK, RTM_NEWADDR = 16, 20
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_FD = 3, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD = 0x02
IFF_UP = 1
NEAR, FAR = "uplink", "far"
LINK_HEADER = struct.Struct("=BxHiII")
UNROUTED = (("198.51.100.1", socket.AF_INET), ("2001:db8:ffff::1", socket.AF_INET6))
"""Documentation addresses that no defect assigns; they are unreachable from a namespace without a route out."""

libc = ctypes.CDLL(None, use_errno=True)


# --- defects ---


def allow_user_namespaces(_request: dict[str, Any]) -> Reply:
    """Raise the limit of user namespaces to one; the seccomp filter still refuses to create it."""
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("1")
    return {}, []


def leave_semaphore(request: dict[str, Any]) -> Reply:
    """Create a System V semaphore in the cell's ipc namespace from outside."""
    enter(request, "ipc", CLONE_NEWIPC)
    if libc.semget(0, 1, 0o600) < 0:
        raise OSError(ctypes.get_errno(), "semget")
    return {}, []


def leave_abstract_socket(request: dict[str, Any]) -> Reply:
    """Bind an abstract socket in the cell's network namespace from outside."""
    enter(request, "net", CLONE_NEWNET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("\0" + request["name"])
    listener.listen(8)
    return {}, [listener.detach()]


def send_sigterm(request: dict[str, Any]) -> Reply:
    """Send SIGTERM to every process of the first node, as a teardown that does not kill."""
    spared = own_chain() if "proc" in request else []
    for _, pid in cell_processes({"default": request["inits"]["default"]}):
        if pid not in spared:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
    return {}, []


def answer_on_loopback(request: dict[str, Any]) -> Reply:
    """Add addresses to the cell's own loopback interface, and listen on them."""
    enter(request, "net", CLONE_NEWNET)
    for address in request["addresses"]:
        add_address("lo", address, 128 if ":" in address else 32)
    made = [listen(*target) for target in request["listeners"]]
    require_closed({"lo"})
    return {}, made


def add_link(request: dict[str, Any]) -> Reply:
    """Connect the cell's network by a virtual Ethernet pair to a new namespace that contains listeners."""
    cell = os.open(f"/proc/{request['inits']['default']}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    host = os.readlink("/proc/self/ns/net")
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    far = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    set_up("lo")
    join_namespace(cell, CLONE_NEWNET)
    add_veth(NEAR, FAR, far)
    if request["addresses"]:
        near, _ = request["addresses"]
        add_address(NEAR, near, 24)
        set_up(NEAR)
    require_closed({"lo", NEAR}, other_than=host)
    join_namespace(far, CLONE_NEWNET)
    if request["addresses"]:
        add_address(FAR, request["addresses"][1], 24)
        set_up(FAR)
    require_closed({"lo", FAR}, other_than=host)
    return {}, [far, *(listen(*target) for target in request["listeners"])]


# --- helpers ---


def own_chain() -> list[int]:
    """Return this process and its ancestors: inside a node these are the attendant's, and the node ends with them."""
    chain, pid = [], os.getpid()
    while pid:
        chain.append(pid)
        pid = int(stat_fields(pid)[1])
    return chain


def enter(request: dict[str, Any], name: str, kind: int) -> None:
    """Enter a namespace of the cell's first node, unless this process already runs inside."""
    if "proc" in request:
        return
    fd = os.open(f"/proc/{request['inits']['default']}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    join_namespace(fd, kind)
    os.close(fd)


def require_closed(interfaces: set[str], other_than: str = "") -> None:
    """Verify that this network is closed: it has these interfaces only, no route out, and is not the host's.

    No packet is sent: connecting a datagram socket only looks up the route.
    """
    found = {name for _, name in socket.if_nameindex()}
    if found != interfaces:
        raise RuntimeError(f"the network made for a defect has interfaces {sorted(found)}")
    if os.readlink("/proc/self/ns/net") == other_than:
        raise RuntimeError("the network made for a defect is the host's")
    for address, family in UNROUTED:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((address, 9))
            except OSError as error:
                if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH):
                    continue
                raise
        raise RuntimeError(f"the network made for a defect has a route to {address}")


def listen(kind: str, address: str, port: int) -> int:
    """Return the descriptor of a socket that receives connections, in its backlog, or datagrams."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if kind == "tcp":
        made.listen(64)
    return made.detach()


def add_veth(near: str, far: str, namespace: int) -> None:
    """Create a virtual Ethernet pair, with the far end in another namespace."""
    peer = LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, far) + attribute(IFLA_NET_NS_FD, namespace)
    information = attribute(IFLA_INFO_KIND, "veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
    body = LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, near) + attribute(IFLA_LINKINFO, information)
    ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def set_up(name: str) -> None:
    """Bring an interface up."""
    ask(RTM_NEWLINK, 0, LINK_HEADER.pack(0, 0, socket.if_nametoindex(name), IFF_UP, IFF_UP))


def add_address(name: str, address: str, prefix: int) -> None:
    """Add an address to an interface."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    head = struct.pack("=BBBBI", family, prefix, IFA_F_NODAD, 0, socket.if_nametoindex(name))
    ask(RTM_NEWADDR, NLM_F_CREATE, head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed))


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """Return an encoded netlink attribute."""
    data = value.encode() + b"\0" if isinstance(value, str) else value
    data = struct.pack("=I", data) if isinstance(data, int) else data
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def ask(kind: int, flags: int, body: bytes) -> None:
    """Send a netlink request, which changes the network of this process."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        head = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
        channel.send(head + body)
        answer = channel.recv(1 << 16)
    if struct.unpack_from("=H", answer, 4)[0] != NLMSG_ERROR:
        raise OSError(errno.EPROTO, "netlink did not acknowledge")
    number = -struct.unpack_from("=i", answer, 16)[0]
    if number:
        raise OSError(number, os.strerror(number))


def main(request: dict[str, Any], fds: list[int]) -> Reply:
    """Apply the defect that the request names."""
    action: Callable[[dict[str, Any]], Reply] = globals()[request["action"]]
    return action(request)
