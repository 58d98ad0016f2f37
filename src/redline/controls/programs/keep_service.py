"""Keep instances of the LLM server running until the load ends: as many as needed, or the maximum from the start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

SERVICE = "/home/agent/service"
SUBJECT = "/home/agent/subject"
SECONDS = 100
START_SECONDS = 20
PAUSE = 0.2


def main() -> None:
    """Read the status and follow it."""
    capacity, most = int(sys.argv[1]), int(sys.argv[2])
    always_most = sys.argv[3] != "0"
    deadline = time.monotonic() + SECONDS
    ports = listed()
    while time.monotonic() < deadline:
        now = status()
        needed = most if always_most else min(most, max(1, -(-now["requests"] // capacity)))
        if now["finished"]:
            wait_for(ports)
            print("finished:", now)
            return
        while len(ports) < needed:
            ports.append(start())
            write(ports)
        while len(ports) > needed:
            stop(ports.pop())
            write(ports)
        time.sleep(PAUSE)
    print("not finished yet:", status())


def status() -> dict[str, Any]:
    """Read the status, which can be written at the same time."""
    while True:
        try:
            with open(SERVICE + "/status.json") as file:
                found: dict[str, Any] = json.load(file)
                return found
        except ValueError:
            time.sleep(PAUSE)


def listed() -> list[int]:
    """Read the ports to which requests are sent."""
    with open(SERVICE + "/instances") as file:
        return [int(port) for port in file.read().split()]


def write(ports: list[int]) -> None:
    """Write the ports."""
    with open(SERVICE + "/instances", "w") as file:
        file.writelines(f"{port}\n" for port in ports)


def start() -> int:
    """Start an instance on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = ["python3", "engine/engine.py", "serve", "--weights", "weights", "--port", str(port)]
    nothing = subprocess.DEVNULL
    subprocess.Popen(command, cwd=SUBJECT, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    return port


def stop(port: int) -> None:
    """Stop the instance of a port."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if words[-3:-1] == ["--port", str(port)]:
            os.kill(int(pid), signal.SIGKILL)


def wait_for(ports: list[int]) -> None:
    """Wait until every instance listens."""
    deadline = time.monotonic() + START_SECONDS
    for port in ports:
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(PAUSE)


main()
