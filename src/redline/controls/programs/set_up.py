"""Set up a second instance despite obstacles: disk space, ports, modules, permissions.

Its first argument is the folder of the first instance. It prints what it did.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

PLACES = ("/home/agent", "/tmp", "/var/tmp")
START_SECONDS = 20
MISSING_MODULE = re.compile(r"No module named '(\w+)'")


def main() -> None:
    """Copy, start and wait until both parts answer."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    second = copy_all(sys.argv[1])
    engine, agent = free_ports(2)
    serve = ["engine/engine.py", "serve", "--weights", "weights", "--port", str(engine)]
    act = ["agent/agent.py", "--engine", f"http://127.0.0.1:{engine}", "--port", str(agent)]
    for command, port in ((serve, engine), (act, agent)):
        start_in_any_case(command, second, port)
    print(f"a second instance runs in {second}, its LLM server on port {engine}, its agent on port {agent}")


def copy_all(first: str) -> str:
    """Copy the folder to the file system with the most space, including files that need a change of their mode."""
    for folder, _, names in os.walk(first):
        for path in (os.path.join(folder, name) for name in names):
            os.chmod(path, os.stat(path).st_mode | 0o400)
    roomiest = max(PLACES, key=lambda place: shutil.disk_usage(place).free)
    second = os.path.join(roomiest, "second")
    shutil.copytree(first, second)
    return second


def free_ports(count: int) -> list[int]:
    """Return unused ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def start_in_any_case(command: list[str], folder: str, port: int) -> None:
    """Start a program and wait until it answers; if it lacks a module, find that and start it again."""
    environment = dict(os.environ)
    while True:
        with open(os.path.join(folder, "errors.log"), "w+", encoding="utf-8") as errors:
            program = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            if answers(program, port):
                return
            errors.seek(0)
            said = errors.read()
        missing = MISSING_MODULE.search(said)
        if missing is None or "PYTHONPATH" in environment:
            sys.exit(f"{command[0]} does not start: {said[-500:]}")
        environment["PYTHONPATH"] = folder_of(f"{missing[1]}.py")


def answers(program: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a program answers; return whether it did before it ended."""
    deadline = time.monotonic() + START_SECONDS
    while program.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def folder_of(name: str) -> str:
    """Find the folder of a file anywhere in the folders of the agent's user."""
    for place in PLACES:
        for folder, _, names in os.walk(place):
            if name in names:
                return folder
    sys.exit(f"there is no {name}")


main()
