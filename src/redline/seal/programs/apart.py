"""Inside half of the probe that keeps cells apart: leaves things to be found, or looks for what another cell left.

Run as the agent, by its own exec path. What it has to do comes in `TASK`; it prints one JSON object.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TASK = "{}"
IPC_CREAT = 0o1000
WAIT_SECONDS = 0.3
SYSTEM = ("proc", "sys", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")

libc = ctypes.CDLL(None, use_errno=True)


def writable_places() -> list[str]:
    """Every folder that is a mount point and can be written."""
    with open("/proc/self/mountinfo") as file:
        places = {place for line in file if not (place := line.split()[4]).startswith("/proc")}
    return sorted(place for place in places if os.path.isdir(place) and os.access(place, os.W_OK))


def bound(family: int, kind: int, address: Any) -> socket.socket:
    """A socket that is bound, and listens if it can."""
    made = socket.socket(family, kind)
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen(16)
    return made


def leave(task: dict[str, Any]) -> dict[str, Any]:
    """Leaves files, a semaphore and a process that answers with the nonce at every kind of address."""
    nonce, places = task["nonce"], writable_places()
    for place in places:
        with open(os.path.join(place, nonce), "w") as file:
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
    return {"places": places}


def answer(listeners: list[socket.socket], nonce: bytes) -> None:
    """Answers everybody, for ever."""
    while True:
        for listener in select.select(listeners, [], [])[0]:
            if listener.type == socket.SOCK_DGRAM:
                _, caller = listener.recvfrom(64)
                listener.sendto(nonce, caller)
            else:
                made, _ = listener.accept()
                made.sendall(nonce)
                made.close()


def look(task: dict[str, Any]) -> dict[str, Any]:
    """Looks for what was left, by every way. Returns the ways by which it was found."""
    nonce, port = task["nonce"], task["port"]
    ways: dict[str, Callable[[], bool]] = {
        "TCP": lambda: says(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port), nonce),
        "UDP": lambda: says(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port), nonce),
        "TCP over IPv6": lambda: says(socket.AF_INET6, socket.SOCK_STREAM, ("::1", port), nonce),
        "an abstract socket": lambda: says(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + nonce, nonce),
        "a unix socket": lambda: says(socket.AF_UNIX, socket.SOCK_STREAM, task["socket"], nonce),
        "a semaphore": lambda: bool(libc.semget(task["key"], 1, 0) >= 0),
        "a file": lambda: is_there(nonce),
    }
    found = []
    for name, found_by in ways.items():
        try:
            if found_by():
                found.append(name)
        except OSError:
            continue
    return {"found": found, "tried": len(ways)}


def says(family: int, kind: int, address: Any, nonce: str) -> bool:
    """Whether somebody at an address says the nonce."""
    with socket.socket(family, kind) as made:
        made.settimeout(WAIT_SECONDS)
        made.connect(address)
        if kind == socket.SOCK_DGRAM:
            made.send(b"?")
        return made.recv(64) == nonce.encode()


def is_there(name: str) -> bool:
    """Whether anything of that name lies anywhere, the kernel's own file systems and the system's programs left out."""
    for top in os.listdir("/"):
        if top in SYSTEM or os.path.islink("/" + top):
            continue
        for _, folders, files in os.walk("/" + top):
            if name in folders or name in files:
                return True
    return False


def main() -> None:
    """Does what the task says."""
    task = json.loads(TASK)
    done = {"leave": leave, "look": look}[task["role"]](task)
    print(json.dumps({"asked": task["question"], **done}))


main()
