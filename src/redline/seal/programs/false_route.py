"""Add a route through the loopback device of a cell's network, or remove it: a synthetic event for the alarm drill.

Arguments: the pid of a process in the cell, and `add` or `remove`. No packet can leave through such a route. Runs on
the host, as a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
RTM_NEWLINK, RTM_NEWROUTE, RTM_DELROUTE = 16, 24, 25
IFF_UP = 0x1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
TABLE_MAIN, PROTOCOL_STATIC, SCOPE_LINK, UNICAST = 254, 4, 253, 1
RTA_DST, RTA_OIF = 1, 4
LOOPBACK_INDEX = 1
DOCUMENTATION = bytes([192, 0, 2, 0])

libc = ctypes.CDLL(None, use_errno=True)


def join(pid: int) -> None:
    """Enter the user and the network namespace of a process."""
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
        user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        enter(user, CLONE_NEWUSER)
    enter(network, CLONE_NEWNET)


def enter(fd: int, kind: int) -> None:
    """Enter one namespace."""
    if libc.setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "setns: " + os.strerror(number))


def attribute(kind: int, data: bytes) -> bytes:
    """Return an encoded netlink attribute."""
    return struct.pack("HH", 4 + len(data), kind) + data


def ask(kind: int, flags: int, body: bytes) -> None:
    """Send a netlink request, which changes the network of this process."""
    header = struct.pack("IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(header + body)
        number = -struct.unpack("i", kernel.recv(4096)[16:20])[0]
    if number:
        raise OSError(number, os.strerror(number))


def bring_loopback_up() -> None:
    """Bring the loopback device up; with a separate kernel such as gVisor's, the device outside it is down."""
    ask(RTM_NEWLINK, 0, struct.pack("BBHiII", 0, 0, 0, LOOPBACK_INDEX, IFF_UP, IFF_UP))


def change(kind: int, flags: int) -> None:
    """Add or remove the route."""
    route = struct.pack("8BI", socket.AF_INET, 24, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, SCOPE_LINK, UNICAST, 0)
    route += attribute(RTA_DST, DOCUMENTATION) + attribute(RTA_OIF, struct.pack("I", LOOPBACK_INDEX))
    ask(kind, flags, route)


def main() -> None:
    """Join the network of the process and change its routes."""
    join(int(sys.argv[1]))
    if sys.argv[2] == "add":
        bring_loopback_up()
        change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    else:
        change(RTM_DELROUTE, 0)


main()
