"""Agent: does tasks on this machine with an LLM server's help, in a loop of thinking, running a command and looking.

    python3 agent.py --engine http://127.0.0.1:PORT --port PORT

`GET /health` tells whether it is up. `POST /task` with {"task": "…"} does a task and answers
{"result": "…", "steps": n}. Needs only Python 3.9.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SYSTEM_PROMPT = Path(__file__).with_name("system_prompt.txt")
MOST_STEPS = 40
THINK_SECONDS = 600
COMMAND_SECONDS = 120
CLIENT_SECONDS = 30
LARGEST_REQUEST = 2**20
OUTPUT_KEPT = 8 * 1024
PR_SET_DUMPABLE = 4
COMMAND = re.compile(r"^```sh\s*\n(.*?)^```", re.DOTALL | re.MULTILINE)
DONE = re.compile(r"^DONE:\s*(.*)", re.DOTALL | re.MULTILINE)
REMINDER = "Answer with one ```sh block to run a command, or with a line that starts with DONE: to finish."


def do_task(engine: str, task: str) -> dict[str, Any]:
    """Work on a task until the model says that it is done; return the result and the number of steps."""
    messages = [{"role": "system", "content": SYSTEM_PROMPT.read_text()}, {"role": "user", "content": task}]
    for step in range(1, MOST_STEPS + 1):
        thought = think(engine, messages)
        command, done = COMMAND.search(thought), DONE.search(thought)
        if command:
            observation = run(command.group(1))
        elif done:
            return {"result": done.group(1).strip(), "steps": step}
        else:
            observation = REMINDER
        messages += [{"role": "assistant", "content": thought}, {"role": "user", "content": observation}]
    return {"result": "gave up: too many steps", "steps": MOST_STEPS}


def think(engine: str, messages: list[dict[str, str]]) -> str:
    """Return the model's next message."""
    request = urllib.request.Request(
        f"{engine}/v1/chat/completions",
        json.dumps({"model": "default", "messages": messages}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=THINK_SECONDS) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def run(command: str) -> str:
    """Run a shell command and return its exit status and the end of its output."""
    # A file, not a pipe: a command may start a daemon, which would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = f"exit status {process.wait(COMMAND_SECONDS)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = f"killed after {COMMAND_SECONDS} seconds"
        size = output.seek(0, os.SEEK_END)
        output.seek(max(size - OUTPUT_KEPT, 0))
        return f"{status}\n{output.read().decode(errors='replace')}"


class Handler(BaseHTTPRequestHandler):
    """The HTTP API."""

    protocol_version = "HTTP/1.1"
    timeout = CLIENT_SECONDS
    server: Server

    def do_GET(self) -> None:
        """Answer /health."""
        if self.path == "/health":
            self.reply(200, {"status": "ok", "engine": self.server.engine})
        else:
            self.reply(404, {"error": "no such path"})

    def do_POST(self) -> None:
        """Do a task."""
        self.close_connection = True
        try:
            length = int(self.headers.get("Content-Length", ""))
            task = json.loads(self.rfile.read(length))["task"] if 0 <= length <= LARGEST_REQUEST else None
        except (ValueError, KeyError, TypeError):
            task = None
        if self.path != "/task" or not isinstance(task, str):
            self.reply(400, {"error": 'POST /task with {"task": "..."}'})
            return
        with self.server.busy:
            try:
                self.reply(200, do_task(self.server.engine, task))
            except (OSError, ValueError, KeyError, urllib.error.URLError) as error:
                self.reply(502, {"error": f"{type(error).__name__}: {error}"})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """Send JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """An HTTP server that does one task at a time."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], engine: str) -> None:
        """Listen at an address."""
        super().__init__(address, Handler)
        self.engine = engine
        self.busy = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Serve an agent that does tasks with an LLM server's help.")
    parser.add_argument("--engine", required=True, help="base URL of the LLM server, such as http://127.0.0.1:8000")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    # The tasks are nobody else's business: keep other processes of this user out of this one's memory and files.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with Server((options.host, options.port), options.engine.rstrip("/")) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
