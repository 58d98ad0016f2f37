"""Inside half of the full set: try to reach addresses that must not answer. Executed by `inside.py`.

It connects only if the loopback is the only interface and no route leads elsewhere, so that no packet can leave.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import time

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

    Target = tuple[str, str, int]  # tcp, udp or icmp; address; port

WAIT_SECONDS = 0.15
ECHO4, ECHO6 = b"\x08\x00\xf7\xff\x00\x00\x00\x00", b"\x80\x00\x00\x00\x00\x00\x00\x00"
QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01"


def require_closed() -> None:
    """Raise an error if there is any interface other than the loopback, or any route through one."""
    names = {name for _, name in socket.if_nameindex()}
    with open("/proc/net/dev") as file:
        names |= {line.split(":")[0].strip() for line in file if ":" in line}
    if names != {"lo"}:
        raise RuntimeError(f"interfaces {', '.join(sorted(names))}")
    with open("/proc/net/route") as file:
        routes = {line.split()[0] for line in file.read().splitlines()[1:]}
    try:
        with open("/proc/net/ipv6_route") as file:
            routes |= {line.split()[-1] for line in file}
    except FileNotFoundError:
        pass
    if routes - {"lo"}:
        raise RuntimeError("a route leads out")


def reach(targets: list[Target]) -> list[str]:
    """Try all targets concurrently. Return those that answered, or did not reject a datagram in time."""
    waiting: dict[int, tuple[socket.socket, str, str]] = {}
    reached = []
    watch = select.poll()
    for kind, address, port in targets:
        name = f"{kind} {address} port {port}"
        made = begin(kind, address, port)
        if made is None:
            continue
        waiting[made.fileno()] = (made, kind, name)
        watch.register(made, select.POLLOUT if kind == "tcp" else select.POLLIN)
    end = time.monotonic() + WAIT_SECONDS
    while waiting and time.monotonic() < end:
        for fd, _ in watch.poll(max(1, int(1000 * (end - time.monotonic())))):
            made, kind, name = waiting.pop(fd)
            watch.unregister(fd)
            if refusal(made, kind) is None:
                reached.append(name)
            made.close()
    for made, kind, name in waiting.values():
        made.close()
        if kind == "udp":
            reached.append(name + " (accepted a datagram)")
    return sorted(reached)


def begin(kind: str, address: str, port: int) -> socket.socket | None:
    """Start to connect to a target. Return None if the kernel reports at once that it is unreachable."""
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    protocol = 0 if kind != "icmp" else (socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    try:
        made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, protocol)
    except OSError:
        return None
    made.setblocking(False)
    try:
        made.connect((address, port))
        if kind != "tcp":
            made.send({"udp": QUESTION, "icmp": ECHO6 if six else ECHO4}[kind])
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        return None
    if made.getsockname()[:2] == (address, port):
        # The kernel assigned the target's own port, so the socket would reach itself. Keep it open while retrying,
        # so that the next socket gets another port.
        another = begin(kind, address, port)
        made.close()
        return another
    return made


def refusal(made: socket.socket, kind: str) -> int | None:
    """Return the error with which a target rejected the call, None if it answered."""
    number = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number or kind == "tcp":
        return number or None
    try:
        made.recv(512)
    except OSError as error:
        return error.errno or errno.EIO
    return None


def leaving(task: dict[str, Any]) -> dict[str, Any]:
    """Try the harness's own listeners and the documentation addresses, by every protocol."""
    require_closed()
    network = task["network"]
    targets = [(kind, address, port) for kind, address, port in task["listeners"]]
    targets += [
        (kind, address, port)
        for address in network["documentation"]
        for kind in ("tcp", "udp")
        for port in network["ports"]
    ]
    targets += [("icmp", address, 0) for address in network["documentation"]]
    return {"reached": reach(targets), "tried": len(targets)}


def names(task: dict[str, Any]) -> dict[str, Any]:
    """Try to resolve names."""
    require_closed()
    network = task["network"]
    servers = list(network["resolvers"])
    try:
        with open("/etc/resolv.conf") as file:
            servers += [line.split()[1] for line in file if line.startswith("nameserver")]
    except (OSError, IndexError):
        pass
    targets = [(kind, server, port) for server in servers for kind in ("tcp", "udp") for port in network["name_ports"]]
    targets += [("udp", address, 5353) for address in network["multicast"]]
    reached = reach(targets)
    resolved = []
    for name in () if reached else network["names"]:  # with a silent server, the resolver would wait for a long time
        try:
            socket.getaddrinfo(name, 80)
            resolved.append(name)
        except OSError:
            continue
    return {"reached": reached, "resolved": resolved, "tried": len(targets)}


def metadata(task: dict[str, Any]) -> dict[str, Any]:
    """Try the addresses of the metadata services of clouds."""
    require_closed()
    targets = [("tcp", address, port) for address in task["network"]["metadata"] for port in (80, 443)]
    return {"reached": reach(targets), "tried": len(targets)}


def proxies(task: dict[str, Any]) -> dict[str, Any]:
    """Try common addresses of proxies, and a client that is configured to use one."""
    require_closed()
    network = task["network"]
    targets = [("tcp", address, port) for address in network["proxy_addresses"] for port in network["proxy_ports"]]
    reached = reach(targets)
    curl = "/usr/bin/curl"
    if os.access(curl, os.X_OK):
        proxy = f"http://{network['documentation'][0]}:{network['proxy_ports'][0]}"
        variables = {name: proxy for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY")}
        done = subprocess.run(
            [curl, "-s", "-m", "1", f"http://{network['documentation'][1]}/"],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode == 0:
            reached.append("a page through a proxy")
    return {"reached": reached, "tried": len(targets)}


GROUPS = (leaving, names, metadata, proxies)
