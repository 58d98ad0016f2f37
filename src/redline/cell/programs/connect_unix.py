"""Joined program: connect to a unix socket of a node from outside."""

from __future__ import annotations

import errno
import os
import socket
import time

from redline.cell.programs.prelude import openat2_in_root

TYPE_CHECKING = False  # the name that type checkers know
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.joined import join_namespace

CLONE_NEWNET = 0x40000000
RETRY_SECONDS = 0.02


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, int], list[int]]:
    """Return the connected socket; its error number if it cannot be connected."""
    try:
        return {}, [connected(request)]
    except (OSError, ValueError) as error:
        return {"errno": getattr(error, "errno", None) or errno.EINVAL}, []


def connected(request: dict[str, Any]) -> int:
    """Connect to the path of the request, an abstract socket for `@NAME`."""
    init, path = request["inits"][request["node"]], request["path"]
    if path.startswith("@"):
        network = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        join_namespace(network, CLONE_NEWNET)
        target = b"\0" + os.fsencode(path[1:])
    else:
        root = os.open(f"/proc/{init}/root", os.O_PATH)
        target = b"/proc/self/fd/%d" % openat2_in_root(root, path, os.O_PATH)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    deadline = time.monotonic() + request["timeout"]
    while True:
        number = made.connect_ex(target)
        if number == 0:
            return made.detach()
        # EAGAIN: the listener's backlog is full, and may have room soon.
        if number != errno.EAGAIN or time.monotonic() > deadline:
            raise OSError(number, os.strerror(number))
        time.sleep(RETRY_SECONDS)
