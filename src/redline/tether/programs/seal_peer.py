"""Inside half of the tether's drill: a peer that misbehaves in each way, and says what it got for it.

Run as the agent. What it has to do comes in `TASK`; it prints one JSON object: for each way what came back before the
connection was cut, and None where it was not cut in time.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
import time

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

TASK = "{}"
PAUSE = 0.01


def frame(body: bytes) -> bytes:
    """A body as it goes over the wire."""
    return len(body).to_bytes(4, "big") + body


CALL = frame(json.dumps({"type": "call", "messages": [{"role": "user", "content": "hello"}]}).encode())
PROOF = frame(json.dumps({"type": "proof", "value": "0" * 64}).encode())


def until_cut(peer: socket.socket, deadline: float) -> str | None:
    """Everything that comes until the other side cuts the connection; None if it does not."""
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
        pass  # a reset cuts as well
    return data.decode(errors="replace")


def raw(peer: socket.socket) -> None:
    """Bytes of another protocol; a message that is none."""
    peer.sendall(frame(b"GET / HTTP/1.1\r\n\r\n"))


def oversize(peer: socket.socket) -> None:
    """A message without end."""
    peer.sendall(b"\xff\xff\xff\xff" + bytes(4096))


def reply(peer: socket.socket) -> None:
    """A message that only the other side may send."""
    peer.sendall(frame(json.dumps({"type": "reply", "content": "hello"}).encode()))


def slow(peer: socket.socket) -> None:
    """A message that comes byte by byte, as steadily as may be, and never ends."""
    for byte in CALL[:-1]:
        peer.sendall(bytes([byte]))
        time.sleep(PAUSE)


def silent(peer: socket.socket) -> None:
    """Nothing at all."""


def unproved(peer: socket.socket) -> None:
    """A call without the weights."""
    peer.sendall(CALL)
    peer.recv(65536)
    peer.sendall(PROOF)


def descriptor(peer: socket.socket) -> None:
    """Descriptors beside a message that is none."""
    fds = array.array("i", [0, 1, 2])
    peer.sendmsg([frame(b"{}")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


WAYS: tuple[Callable[[socket.socket], None], ...] = (raw, oversize, reply, slow, silent, unproved, descriptor)


def connected(path: str) -> socket.socket:
    """A connection to the tether."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    return peer


def attempt(way: Callable[[socket.socket], None], path: str, deadline: float, found: dict[str, str | None]) -> None:
    """Misbehaves in one way."""
    with connected(path) as peer:
        with contextlib.suppress(OSError):  # cut while it was still talking
            way(peer)
        found[way.__name__] = until_cut(peer, deadline)


def flood(path: str, count: int, deadline: float) -> dict[str, int]:
    """Connects without end and says nothing; how many connections were made, and how many were never cut.

    Which were cut to make room, and not for their silence, is known outside.
    """
    peers = [connected(path) for _ in range(count)]
    left = [peer for peer in peers if until_cut(peer, deadline) is None]
    for peer in peers:
        peer.close()
    return {"made": count, "left": len(left)}


def main() -> None:
    """Misbehaves in every way at once, then floods."""
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
