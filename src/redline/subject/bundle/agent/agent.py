"""Agent: does tasks on this machine with an LLM server's help, in a loop of thinking, running a command and looking.

    python3 agent.py --engine http://127.0.0.1:PORT --port PORT [--host ADDRESS]

`GET /health` tells whether it is up. `POST /task` with {"task": "…"} does a task and answers
{"result": "…", "steps": n}. Needs only Python 3.9.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import sys
import threading
from getopt import GetoptError, gnu_getopt
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from typing import Any

FOLDER = os.path.dirname(os.path.abspath(__file__))
SYSTEM_PROMPT = os.path.join(FOLDER, "system_prompt.txt")
MAX_STEPS = 40
THINK_SECONDS = 600
COMMAND_SECONDS = 120
CLIENT_SECONDS = 30
LARGEST_REQUEST = 2**20
LARGEST_ANSWER = 2**24
MAX_LINE = 64 * 1024
MAX_HEADERS = 100
HTTP_OK = 200
OUTPUT_KEPT = 8 * 1024
MAX_COMMANDS = 8
KILLED = 137
PR_SET_DUMPABLE = 4
SESSION = os.path.join(FOLDER, "session.sh")
SLOTS = ("a", "b")
GRACE_STEPS = 10
PARTS = r"(?m)^# ---.*\n"
BLOCK = r"(?ms)^[ ]{0,3}(`{3,}|~{3,})[ \t]*(\w*)(?!\w)[^\n`]*\n(.*?)^[ ]{0,3}\1[`~]*[ \t]*$"
SHORT_BLOCK = r"(?m)^[ ]{0,3}```(sh|bash|shell)[ \t]+([^\n`]+)```[ \t]*$"
LANGUAGES = ("", "sh", "bash", "shell", "zsh", "console", "terminal")
DONE = r"(?ms)^[*_#> \t]*DONE[*_]*(?::|[.!]?[*_]*[ \t]*$)[*_]*\s*(.*)"
REMINDER = "Answer with one ```sh block to run a command, or with a line that starts with DONE: to finish."
UNCLOSED = "No command was run: the block is not closed with a line of three backticks. " + REMINDER
LEFT_OUT = f"[no more than {MAX_COMMANDS} commands of a message are run]"


def do_task(engine: str, task: str) -> dict[str, Any]:
    """Work on a task until the model says that it is done; return the result and the number of steps."""
    messages = [{"role": "system", "content": read_text(SYSTEM_PROMPT)}, {"role": "user", "content": task}]
    shell = Shell()
    try:
        for step in range(1, MAX_STEPS + 1):
            thought = think(engine, messages)
            commands, rest = read_message(thought)
            observation, failed = observe(shell, commands)
            done = re.search(DONE, rest)
            # Commands that come with the result are run first; when one fails, the model sees that before it is done.
            if done and not failed:
                return {"result": done.group(1).strip(), "steps": step}
            if not commands:
                observation = UNCLOSED if "```" in rest else REMINDER
            messages += [{"role": "assistant", "content": thought}, {"role": "user", "content": observation}]
        return {"result": "gave up: too many steps", "steps": MAX_STEPS}
    finally:
        shell.close()


def read_text(path: str) -> str:
    """Return the text of a file."""
    with open(path) as file:
        return file.read()


def read_message(message: str) -> tuple[list[str], str]:
    """Return the commands in a message, in their order, and the text outside of its blocks."""
    message = re.sub(SHORT_BLOCK, r"```\1\n\2\n```", message)
    blocks = [match.group(3) for match in re.finditer(BLOCK, message) if match.group(2).lower() in LANGUAGES]
    commands = [without_prompts(block) for block in blocks]
    return [command for command in commands if command.strip()], re.sub(BLOCK, "", message)


def without_prompts(block: str) -> str:
    """Return the commands of a block that shows a terminal: its lines that start with a prompt, without the prompt."""
    lines = block.splitlines()
    if not lines or not lines[0].startswith("$ "):
        return block
    return "\n".join(line[2:] for line in lines if line.startswith("$ ")) + "\n"


def observe(shell: Shell, commands: list[str]) -> tuple[str, bool]:
    """Run the commands of a message; return what the model is shown of them, and whether one failed."""
    results = [shell.run(command) for command in commands[:MAX_COMMANDS]]
    shown = [text for _, text in results] + [LEFT_OUT] * (len(commands) > MAX_COMMANDS)
    return "\n".join(shown), any(status != 0 for status, _ in results)


def think(engine: str, messages: list[dict[str, str]]) -> str:
    """Return the model's next message."""
    completion = json.loads(post(engine + "/v1/chat/completions", {"model": "default", "messages": messages}))
    return str(completion["choices"][0]["message"]["content"])


def post(url: str, value: dict[str, Any]) -> bytes:
    """Return what a server answers to JSON. The standard library's client takes longer to import than to ask."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"not the URL of an LLM server: {url}")
    body = json.dumps(value).encode()
    head = (
        f"POST {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port or 80), THINK_SECONDS) as connection:
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as answer:
            status = answer.readline(MAX_LINE).split()[1:2]
            headers = read_headers(answer) or {}
            content = answer.read(min(int(headers.get("Content-Length", LARGEST_ANSWER)), LARGEST_ANSWER))
    if status != [b"200"]:
        raise OSError(f"the LLM server failed: {content[:OUTPUT_KEPT].decode(errors='replace')}")
    return content


def read_headers(file: BufferedIOBase) -> dict[str, str] | None:
    """Return the headers of a request or an answer; None if there are too many."""
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        name, found, value = file.readline(MAX_LINE).decode("latin-1").partition(":")
        if not found:
            return headers
        headers[name.strip().title()] = value.strip()
    return None


class Shell:
    """Runs commands: one after the other in the same session of bash, where the file that describes one is there.

    Each command is a process of its own. What a shell keeps goes from one to the next through a file.
    """

    def __init__(self) -> None:
        """Start without that file."""
        self.folder = ""
        self.parts: list[str] | None = None
        self.last = self.number = self.slot = 0

    def prepare(self) -> list[str]:
        """Make the folder of that file. Return the parts of the session; none if each command gets a new shell."""
        import shutil
        import tempfile

        try:
            parts = re.split(PARTS, read_text(SESSION))
            if len(parts) == len(("before", "captured", "after")) and shutil.which("bash"):
                self.folder = tempfile.mkdtemp(prefix=".shell-")
                return parts
        except (OSError, ValueError):
            pass
        return []

    def close(self) -> None:
        """Remove that folder."""
        if self.folder:
            import shutil

            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit status, and that with the end of its output as the model is shown it."""
        if "\0" in command:
            return 1, "exit status 1\na command holds no NUL byte\n"
        if self.parts is None:
            self.parts = self.prepare()
        if self.parts:
            self.number += 1
            status, shown = run(["bash", "-s"], self.script(command, self.parts))
            if status is not None:
                self.last, self.slot = self.number, 1 - self.slot
        else:
            status, shown = run(["/bin/sh", "-c", command], b"")
        return (KILLED if status is None else status), shown

    def script(self, command: str, parts: list[str]) -> bytes:
        """Return what bash reads to run a command: all in one line, so that the command's first line is line 1."""
        import shlex

        values = {
            "LAST": str(self.last or ""),
            "NUMBER": str(self.number),
            "READ": f"{self.folder}/{SLOTS[self.slot]}",
            "WRITE": f"{self.folder}/{SLOTS[1 - self.slot]}",
            "FOLDER": self.folder,
            "GRACE": str(GRACE_STEPS),
            "COMMAND": command,
        }
        quoted = {name: shlex.quote(value) for name, value in values.items()}
        quoted["PREAMBLE"] = ""
        before, captured, after = (
            one_line(re.sub("@([A-Z]+)@", lambda name: quoted[name.group(1)], part)) for part in parts
        )
        return (
            f'{{ exec </dev/null; eval {before}; eval "$_shell_command"; '
            f"{{ _shell_status=$?; builtin enable eval; eval {captured}; }} >/dev/null 2>&1; "
            f'eval {after}; builtin exit "$_shell_status"; }}\n'
        ).encode()


def one_line(text: str) -> str:
    """Return a text as a word of bash's, in ASCII and without a line's end in it."""
    return "$'" + "".join(f"\\{byte:03o}" for byte in text.encode(errors="replace")) + "'"


def run(arguments: list[str], script: bytes) -> tuple[int | None, str]:
    """Run a program; return its exit status, None if it was killed for its time, and what the model is shown of it."""
    import subprocess
    import tempfile

    # Files, not pipes: a command may start a daemon, which would keep a pipe open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(script)
        given.seek(0)
        process = subprocess.Popen(
            arguments,
            stdin=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(COMMAND_SECONDS)
            said = f"exit status {status}"
        except subprocess.TimeoutExpired:
            end(process.pid)
            process.wait()
            status = None
            said = f"killed after {COMMAND_SECONDS} seconds"
        size = output.seek(0, os.SEEK_END)
        output.seek(max(size - OUTPUT_KEPT, 0))
        return status, f"{said}\n{output.read().decode(errors='replace')}"


def end(root: int) -> None:
    """Kill a program that took too long with its session and all its descendants."""
    os.kill(root, signal.SIGSTOP)
    doomed = {root}
    while True:
        found = {pid for pid, parent, session in processes() if parent in doomed or session == root} - doomed
        if not found:
            break
        doomed |= found
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def processes() -> Iterator[tuple[int, int, int]]:
    """Yield pid, parent and session of every process."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            yield int(name), int(fields[1]), int(fields[3])
        except (OSError, ValueError, IndexError):
            continue


class Handler(StreamRequestHandler):
    """The HTTP API."""

    timeout = CLIENT_SECONDS
    server: Server

    def handle(self) -> None:
        """Answer requests until the connection ends."""
        self.close_connection = False
        while not self.close_connection and self.read_head():
            if self.command == "GET":
                self.do_GET()
            elif self.command == "POST":
                self.do_POST()
            else:
                self.reply(501, {"error": "no such method"})

    def read_head(self) -> bool:
        """Read the first line and the headers of a request; return False if there is no request that can be read."""
        words = self.rfile.readline(MAX_LINE).decode("latin-1").split()
        if len(words) != len(("method", "path", "version")):
            return False
        self.command, self.path, version = words
        headers = read_headers(self.rfile)
        if headers is None:
            return False
        self.headers = headers
        self.close_connection = version != "HTTP/1.1" or self.headers.get("Connection", "").lower() == "close"
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

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
            except (OSError, ValueError, KeyError) as error:
                self.reply(502, {"error": f"{type(error).__name__}: {error}"})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """Send JSON."""
        self.wfile.write(response(status, json.dumps(body).encode()))


def response(status: int, body: bytes) -> bytes:
    """Return an HTTP response of JSON."""
    reason = "OK" if status == HTTP_OK else "Error"
    kind = "application/json"
    return f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Server(ThreadingMixIn, TCPServer):
    """An HTTP server that does one task at a time."""

    allow_reuse_address = True
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
    try:
        given = dict(gnu_getopt(sys.argv[1:], "", ["engine=", "port=", "host="])[0])
        engine, port, host = given["--engine"], int(given["--port"]), given.get("--host", "127.0.0.1")
    except (GetoptError, KeyError, ValueError) as error:
        raise SystemExit(f"{__doc__}\nwrong or missing: {error}") from error
    # The tasks are nobody else's business: keep other processes of this user out of this one's memory and files.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with Server((host, port), engine.rstrip("/")) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
