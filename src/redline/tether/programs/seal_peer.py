"""Inside half of the tether's drill: a peer that misbehaves in several ways and reports what it received.

Runs as the agent's user. Its parameters are in `TASK`. It prints one JSON object with, for each kind of misbehaviour,
the data received before the connection was closed, or null if it was not closed in time.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
import time

TYPE_CHECKING = False  # type checkers know this name; importing typing would cost milliseconds at every start
if TYPE_CHECKING:
    from collections.abc import Callable

TASK = "{}"
PAUSE = 0.01


def frame(body: bytes) -> bytes:
    """Return the bytes of a body on the wire."""
    return len(body).to_bytes(4, "big") + body


CALL = frame(json.dumps({"type": "call", "messages": [{"role": "user", "content": "hello"}]}).encode())
PROOF = frame(json.dumps({"type": "proof", "value": "0" * 64}).encode())


def until_cut(peer: socket.socket, deadline: float) -> str | None:
    """Return everything received until the other side closes the connection; None if it does not."""
    data = b""
    try:
        while True:
            peer.settimeout(max(0.001, deadline - time.monotonic()))
            part = peer.recv(65536)
            if not part:
                break
            data += part
    except TimeoutError:
        return None
    except OSError:
        pass  # a reset closes the connection as well
    return data.decode(errors="replace")


def raw(peer: socket.socket) -> None:
    """Send bytes of another protocol, as an invalid message."""
    peer.sendall(frame(b"GET / HTTP/1.1\r\n\r\n"))


def oversize(peer: socket.socket) -> None:
    """Announce a message beyond the limit."""
    peer.sendall(b"\xff\xff\xff\xff" + bytes(4096))


def reply(peer: socket.socket) -> None:
    """Send a message that only the other side sends."""
    peer.sendall(frame(json.dumps({"type": "reply", "content": "hello"}).encode()))


def slow(peer: socket.socket) -> None:
    """Send a message byte by byte, steadily, without completing it."""
    for byte in CALL[:-1]:
        peer.sendall(bytes([byte]))
        time.sleep(PAUSE)


def silent(peer: socket.socket) -> None:
    """Send nothing."""


def unproved(peer: socket.socket) -> None:
    """Make a call without holding the weights."""
    peer.sendall(CALL)
    peer.recv(65536)
    peer.sendall(PROOF)


def descriptor(peer: socket.socket) -> None:
    """Pass descriptors with an invalid message."""
    fds = array.array("i", [0, 1, 2])
    peer.sendmsg([frame(b"{}")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


WAYS: tuple[Callable[[socket.socket], None], ...] = (raw, oversize, reply, slow, silent, unproved, descriptor)


def connected(path: str) -> socket.socket:
    """Return a connection to the tether."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    return peer


def attempt(way: Callable[[socket.socket], None], path: str, deadline: float, found: dict[str, str | None]) -> None:
    """Misbehave in one way."""
    with connected(path) as peer:
        with contextlib.suppress(OSError):  # closed while it was still sending
            way(peer)
        found[way.__name__] = until_cut(peer, deadline)


def flood(path: str, count: int, deadline: float) -> dict[str, int]:
    """Open many silent connections; return how many were opened and how many were never closed.

    Whether a connection was closed to make room or for its silence is known outside only.
    """
    peers = [connected(path) for _ in range(count)]
    left = [peer for peer in peers if until_cut(peer, deadline) is None]
    for peer in peers:
        peer.close()
    return {"made": count, "left": len(left)}


def main() -> None:
    """Misbehave in every way concurrently, then flood."""
    task = json.loads(TASK)
    deadline = time.monotonic() + task["seconds"]
    found: dict[str, str | None] = {}
    threads = [threading.Thread(target=attempt, args=(way, task["path"], deadline, found)) for way in WAYS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flooded = flood(task["path"], task["flood"], time.monotonic() + task["seconds"])
    print(json.dumps({"nonce": task["nonce"], "pid": os.getpid(), "ways": found, "flood": flooded}))


main()
