"""A Ray cluster for tests, in a network namespace that has loopback only.

`unshare --net python -m tests.run.ray_cluster` starts the head and prints its address. It then reads commands from
stdin, one per line, and answers each with a line: `add NAME CELLS`, and `kill NAME`, which kills a node.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.run.in_workers import NODE

SIOCSIFFLAGS = 0x8914
IFF_UP = 1
STORE_BYTES = 80_000_000
"""Size of each node's object store, about the smallest that Ray takes."""

STARTS = 3
START_SECONDS = 240.0


def enable_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def retried(start: Callable[[], Any]) -> Any:
    """Start a node; Ray gives up after 30 s, which are too few on a busy host."""
    for _ in range(STARTS - 1):
        with contextlib.suppress(Exception):
            return start()
    return start()


def main() -> None:
    enable_loopback()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = retried(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes = {}
    try:
        print(cluster.address, flush=True)
        for line in sys.stdin:
            match line.split():
                case "add", name, cells:
                    add = partial(cluster.add_node, num_cpus=1, object_store_memory=STORE_BYTES)
                    nodes[name] = retried(partial(add, resources={"cells": int(cells)}, env_vars={NODE: name}))
                case "kill", name:
                    cluster.remove_node(nodes.pop(name), allow_graceful=False)
                case _:
                    raise ValueError(line)
            print("done", flush=True)
    finally:
        cluster.shutdown()


class RayCluster:
    """A cluster in a process of its own."""

    def __init__(self, temporary: Path) -> None:
        self.environment = os.environ | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(temporary),
            "RAY_health_check_failure_threshold": "20",  # so that a busy host does not look like a dead node
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        self.process = subprocess.Popen(
            ("unshare", "--net", sys.executable, "-m", "tests.run.ray_cluster"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        self._started: list[subprocess.Popen[str]] = []
        self.address = self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.close()
            raise RuntimeError("the Ray cluster does not respond")
        return line.strip()

    def send(self, *words: object) -> None:
        """Send a command and wait until it is carried out."""
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        assert self._answer() == "done"

    def inside(self, command: list[str]) -> "subprocess.Popen[str]":
        """Start a command in the network namespace of the cluster."""
        process = subprocess.Popen(
            ("nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=Path(__file__).parents[2],
        )
        self._started.append(process)
        return process

    def kill_started(self) -> None:
        """Kill the commands that a failed test has left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self._started.clear()

    def close(self) -> None:
        self.kill_started()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for process in psutil.process_iter():  # a node that did not start leaves processes
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RAY_TMPDIR") == self.environment["RAY_TMPDIR"]:
                    process.kill()


if __name__ == "__main__":
    main()
