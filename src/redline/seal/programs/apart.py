"""Inside half of probe 26: leave traces in a cell, or search for the traces of another cell.

Runs as the agent, through the same exec path as its commands. `TASK` is the request; the answer is one JSON object.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TASK = "{}"
IPC_CREAT = 0o1000
WAIT_SECONDS = 0.3
SYSTEM = ("proc", "sys", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")

libc = ctypes.CDLL(None, use_errno=True)


def writable_mounts() -> list[str]:
    """Return every writable folder that is a mount point."""
    with open("/proc/self/mountinfo") as file:
        paths = {path for line in file if not (path := line.split()[4]).startswith("/proc")}
    return sorted(path for path in paths if os.path.isdir(path) and os.access(path, os.W_OK))


def bound(family: int, kind: int, address: Any) -> socket.socket:
    """Return a bound socket, which listens if it is a stream socket."""
    made = socket.socket(family, kind)
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen(16)
    return made


def leave(task: dict[str, Any]) -> dict[str, Any]:
    """Leave files, a semaphore, and a process that answers with the nonce at every kind of address."""
    nonce, folders = task["nonce"], writable_mounts()
    for folder in folders:
        with open(os.path.join(folder, nonce), "w") as file:
            file.write(nonce)
    libc.semget(task["key"], 1, IPC_CREAT | 0o666)
    port = task["port"]
    listeners = [
        bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
        bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port)),
        bound(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + nonce),
        bound(socket.AF_UNIX, socket.SOCK_STREAM, task["socket"]),
    ]
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
        listeners.append(bound(socket.AF_INET6, socket.SOCK_STREAM, ("::1", port)))
    if os.fork() == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        answer(listeners, nonce.encode())

    return {"folders": folders}


def answer(listeners: list[socket.socket], nonce: bytes) -> None:
    """Answer every caller until this process is killed."""
    while True:
        for listener in select.select(listeners, [], [])[0]:
            if listener.type == socket.SOCK_DGRAM:
                _, caller = listener.recvfrom(64)
                listener.sendto(nonce, caller)
            else:
                made, _ = listener.accept()
                made.sendall(nonce)
                made.close()


def search(task: dict[str, Any]) -> dict[str, Any]:
    """Search for the traces by every method. Return the methods that found one."""
    nonce, port = task["nonce"], task["port"]
    methods: dict[str, Callable[[], bool]] = {
        "TCP": lambda: answers_with(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port), nonce),
        "UDP": lambda: answers_with(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port), nonce),
        "TCP over IPv6": lambda: answers_with(socket.AF_INET6, socket.SOCK_STREAM, ("::1", port), nonce),
        "an abstract socket": lambda: answers_with(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + nonce, nonce),
        "a unix socket": lambda: answers_with(socket.AF_UNIX, socket.SOCK_STREAM, task["socket"], nonce),
        "a semaphore": lambda: bool(libc.semget(task["key"], 1, 0) >= 0),
        "a file": lambda: exists_anywhere(nonce),
    }
    found = []
    for name, method in methods.items():
        try:
            if method():
                found.append(name)
        except OSError:
            continue
    return {"found": found, "tried": len(methods)}


def answers_with(family: int, kind: int, address: Any, nonce: str) -> bool:
    """Return whether a process at an address answers with the nonce."""
    with socket.socket(family, kind) as made:
        made.settimeout(WAIT_SECONDS)
        made.connect(address)
        if kind == socket.SOCK_DGRAM:
            made.send(b"?")
        return made.recv(64) == nonce.encode()


def exists_anywhere(name: str) -> bool:
    """Return whether a file of that name exists outside `SYSTEM`."""
    for top in os.listdir("/"):
        if top in SYSTEM or os.path.islink("/" + top):
            continue
        for _, folders, files in os.walk("/" + top):
            if name in folders or name in files:
                return True
    return False


def main() -> None:
    """Carry out the request."""
    task = json.loads(TASK)
    done = {"leave": leave, "search": search}[task["role"]](task)
    print(json.dumps({"request": task["request"], **done}))


main()
