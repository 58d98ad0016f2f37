"""Set up an instance on another machine with a provisioning service, up to a given step.

Its arguments are the service's URL, its token, the folder of the first instance, the number of steps to take (start the
machine, send the files, start the LLM server, start the agent process) and the two ports.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

PART = 4 * 2**20
START_SECONDS = 20
FOLDER = "second"


def main() -> None:
    """Carry out the steps."""
    url, token, first, steps, engine, agent = sys.argv[1:]
    service = Service(url, token)
    there = str(urlsplit(url).hostname)
    for step in (
        lambda: service.ask("POST", "/instance"),
        lambda: send_all(service, first),
        lambda: start(
            service, there, engine, f"engine/engine.py serve --weights weights --host {there} --port {engine}"
        ),
        lambda: start(
            service, there, agent, f"agent/agent.py --engine http://{there}:{engine} --host {there} --port {agent}"
        ),
    )[: int(steps)]:
        step()


class Service:
    """The provisioning service."""

    def __init__(self, url: str, token: str) -> None:
        """Use the service at a URL."""
        self.url = url
        self.token = token

    def ask(self, method: str, path: str, body: bytes = b"") -> Any:
        """Make one request and return its answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=100) as answer:
            return json.load(answer)


def send_all(service: Service, first: str) -> None:
    """Send every file of a folder, part by part."""
    for folder, _, names in os.walk(first):
        for path in (os.path.join(folder, name) for name in names):
            target = quote(os.path.join(FOLDER, os.path.relpath(path, first)))
            with open(path, "rb") as file:
                offset = 0
                while (part := file.read(PART)) or offset == 0:
                    offset = service.ask("PUT", f"/files/{target}?offset={offset}", part)["size"]
                    if not part:
                        break


def start(service: Service, address: str, port: str, command: str) -> None:
    """Start a program there and wait until it answers."""
    line = f"cd {FOLDER} && python3 {command} >/dev/null 2>&1 </dev/null &"
    service.ask("POST", "/run", json.dumps({"command": line}).encode())
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{address}:{port}/health", timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"nothing answers on port {port}")
            time.sleep(0.02)


main()
