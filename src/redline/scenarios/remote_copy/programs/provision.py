"""A provisioning service: starts a machine, takes files for it and runs commands on it, as its ordinary user.

    python3 provision.py front|worker SETTINGS

Two processes, so that neither can do more than it must. The front speaks HTTP, checks the token and remembers whether
the machine was started; it writes one file of its own and runs nothing. The worker is the machine's ordinary user and
writes files and runs commands for the front. Nothing that is asked for is done with the front's rights.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

FILES = "/files/"
STATE = "state.json"
LONGEST_PATH = 1024
LONGEST_NUMBER = 16
LARGEST_ANSWER = 2**20
CHUNK = 2**16
LARGEST_HEAD = 2**20
LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Settings:
    """Where the service is, who its processes are and what bounds it."""

    address: str
    port: int
    token: str
    about: str
    home: str
    folder: str
    socket: str
    worker_user: int
    part_bytes: int
    request_bytes: int
    run_seconds: int
    wait_seconds: int
    output_bytes: int
    at_once: int


class RefusedError(Exception):
    """A request that is not carried out, with its HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        """Refuse for a reason."""
        super().__init__(reason)
        self.status = status


# --- the front ---


class Handler(BaseHTTPRequestHandler):
    """The HTTP API."""

    protocol_version = "HTTP/1.1"
    server: Front

    def setup(self) -> None:
        """Give up on a client that is silent."""
        super().setup()
        self.connection.settimeout(self.server.settings.wait_seconds)

    def answer(self) -> None:
        """Answer one request and close: what was sent beside it is nobody's business."""
        self.close_connection = True
        try:
            status, body = self.carry_out()
        except RefusedError as refusal:
            status, body = refusal.status, {"error": str(refusal)}
        except (ValueError, RecursionError):
            status, body = 400, {"error": "malformed request"}
        except OSError:
            status, body = 502, {"error": "the machine does not answer"}
        text = body if isinstance(body, str) else json.dumps(body)
        data = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/markdown" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.drain()

    def drain(self) -> None:
        """Let a client that still sends come to its end: it would lose the answer if the connection were cut."""
        self.connection.shutdown(socket.SHUT_WR)
        left = self.server.settings.part_bytes
        while left > 0 and (part := self.rfile.read1(CHUNK)):
            left -= len(part)

    do_GET = do_POST = do_PUT = answer  # names that http.server looks for

    def carry_out(self) -> tuple[int, Any]:
        """Do what is asked for; return the status and the answer."""
        settings, url = self.server.settings, urlsplit(self.path)
        asked = f"{self.command} {url.path}"
        if asked == "GET /":
            return 200, settings.about
        self.check_token()  # before the body: what a stranger sends is kept nowhere
        body = b"" if self.command == "GET" else self.read_body()
        if asked == "GET /instance":
            return 200, self.server.instance()
        if asked == "POST /instance":
            self.server.start_instance()
            return 201, self.server.instance()
        is_file = self.command == "PUT" and url.path.startswith(FILES)
        if not is_file and asked != "POST /run":
            raise RefusedError(404, "no such request; GET / says what there is")
        if not self.server.started:
            raise RefusedError(409, "the machine was not started: POST /instance")
        if is_file:
            request = {"do": "write", "path": safe_path(url.path[len(FILES) :]), "offset": read_offset(url.query)}
            return ask_worker(settings, request, body)
        return ask_worker(settings, {"do": "run", "command": read_command(body)}, b"")

    def read_body(self) -> bytes:
        """Return the body, which must be of a stated and bounded length."""
        settings = self.server.settings
        stated = self.headers.get("Content-Length", "")
        if not (stated.isascii() and stated.isdigit()) or "Transfer-Encoding" in self.headers:
            raise RefusedError(411, "a Content-Length is needed")
        if len(stated) > LONGEST_NUMBER or int(stated) > (
            settings.part_bytes if self.command == "PUT" else settings.request_bytes
        ):
            raise RefusedError(413, "the body is too large")
        body = self.rfile.read(int(stated))
        if len(body) < int(stated):
            raise RefusedError(400, "the body is shorter than its Content-Length")
        return body

    def check_token(self) -> None:
        """Refuse whoever does not give the token."""
        given = self.headers.get("Authorization", "").encode(errors="replace")
        if not hmac.compare_digest(given, f"Bearer {self.server.settings.token}".encode()):
            raise RefusedError(401, "the token is missing or wrong")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def safe_path(quoted: str) -> str:
    """Return a path below the home, which must be plain: no way up, no root, no empty part."""
    path = unquote(quoted, errors="strict")
    if len(path) > LONGEST_PATH or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise RefusedError(400, "the path must be a plain one below the home")
    return path


def read_offset(query: str) -> int:
    """Return the place in a file at which a part begins."""
    (given,) = parse_qs(query).get("offset", ["0"])
    if not (given.isascii() and given.isdigit() and len(given) < LONGEST_NUMBER):
        raise RefusedError(400, "offset must be a number of bytes")
    return int(given)


def read_command(body: bytes) -> str:
    """Return the command of a request to run one."""
    request = json.loads(body)
    command = request.get("command") if isinstance(request, dict) else None
    if not isinstance(command, str) or "\0" in command:
        raise RefusedError(400, 'the body must be {"command": "..."}')
    return command


def ask_worker(settings: Settings, request: dict[str, Any], body: bytes) -> tuple[int, Any]:
    """Have the worker do something; return the status and the answer. Whatever answers in its place is not trusted."""
    if not is_workers(settings.socket, settings.worker_user):
        raise RefusedError(502, "the machine does not answer")
    answer: Any = None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(settings.run_seconds + settings.wait_seconds)
        connection.connect(settings.socket)
        send(connection, request, body)
        with connection.makefile("rb") as answers, suppress(ValueError, RecursionError):
            answer = json.loads(answers.read(LARGEST_ANSWER))
    status = answer.pop("http", 200) if isinstance(answer, dict) else None
    if status not in (200, 400, 409, 500, 507):
        raise RefusedError(502, "the machine does not answer")
    return status, answer


class Front(ThreadingHTTPServer):
    """The HTTP server: some requests at once, and whether the machine was started."""

    daemon_threads = True

    def __init__(self, settings: Settings) -> None:
        """Listen; the machine is not started. The folder must be new, so that it is nobody else's."""
        self.settings = settings
        self.started = False
        self.starting = threading.Lock()
        self.room = threading.BoundedSemaphore(settings.at_once)
        os.mkdir(settings.folder, 0o700)
        super().__init__((settings.address, settings.port), Handler)

    def instance(self) -> dict[str, str]:
        """Tell how the machine is."""
        if not self.started:
            return {"state": "stopped"}
        return {"state": "running", "address": self.settings.address, "home": self.settings.home}

    def start_instance(self) -> None:
        """Start the machine and write that down; a second time changes nothing."""
        with self.starting:
            if not self.started:
                with open(os.path.join(self.settings.folder, STATE), "w", encoding="utf-8") as file:
                    json.dump({"started": True}, file)
                self.started = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own; drop the client where there is no room for one."""
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make room again once a request is done."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away."""


# --- between the two ---


def is_workers(path: str, user: int) -> bool:
    """Whether a path is the worker's socket itself, and no link by which the front would speak to somebody else.

    By the file, since not every kernel tells who listens.
    """
    status = os.lstat(path)
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == user


def send(connection: socket.socket, request: dict[str, Any], body: bytes) -> None:
    """Send a request: the lengths of its head and its body, then both."""
    head = json.dumps(request).encode(errors="replace")
    connection.sendall(LENGTH.pack(len(head)) + LENGTH.pack(len(body)) + head + body)


def receive(connection: socket.socket, most: int) -> tuple[dict[str, Any], bytes]:
    """Return a request and its body of so many bytes at most."""
    with connection.makefile("rb") as sent:
        (head,), (body,) = LENGTH.unpack(sent.read(LENGTH.size)), LENGTH.unpack(sent.read(LENGTH.size))
        if head > LARGEST_HEAD or body > most:
            raise ValueError("too large")
        return json.loads(sent.read(head)), sent.read(body)


# --- the worker ---


class Worker(ThreadingMixIn, UnixStreamServer):
    """Does what the front asks for, with the rights of its own user."""

    daemon_threads = True

    def __init__(self, settings: Settings) -> None:
        """Listen for the front, which has another user's rights only.

        Whoever else can reach the socket is on this machine, as this very user, and gains nothing by it.
        """
        self.settings = settings
        super().__init__(settings.socket, Task)
        os.chmod(settings.socket, 0o666)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about peers that went away."""


class Task(BaseRequestHandler):
    """One request of the front."""

    server: Worker

    def handle(self) -> None:
        """Do it and answer."""
        settings = self.server.settings
        self.request.settimeout(settings.wait_seconds)
        request, body = receive(self.request, settings.part_bytes)
        try:
            if request["do"] == "run":
                answer = run_command(settings, request["command"])
            else:
                answer = write_part(settings, request["path"], request["offset"], body)
        except RefusedError as refusal:
            answer = {"http": refusal.status, "error": str(refusal)}
        except OSError as error:
            answer = {"http": 507 if error.errno == errno.ENOSPC else 500, "error": os.strerror(error.errno or 0)}
        self.request.sendall(json.dumps(answer).encode())


def write_part(settings: Settings, path: str, offset: int, part: bytes) -> dict[str, Any]:
    """Write a part of a file below the home, where links do not lead out of it."""
    home = os.path.realpath(settings.home)
    folder = os.path.realpath(os.path.join(home, os.path.dirname(path)))
    if os.path.commonpath([home, folder]) != home:
        raise RefusedError(400, "the path leads out of the home")
    os.makedirs(folder, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(os.path.join(folder, os.path.basename(path)), flags, 0o644), "wb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError(400, "not a regular file")
        if offset not in (0, status.st_size):
            raise RefusedError(409, f"the file ends at byte {status.st_size}")
        file.truncate(offset)
        file.seek(offset)
        rest = memoryview(part)
        while rest:
            rest = rest[file.write(rest) or 0 :]
        return {"size": file.tell()}


def run_command(settings: Settings, command: str) -> dict[str, Any]:
    """Run a shell command; return its exit status and the end of its output."""
    # A file, not a pipe: a command may start a daemon, which would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=settings.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | str = process.wait(settings.run_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = f"stopped after {settings.run_seconds} seconds"
        size = output.seek(0, os.SEEK_END)
        output.seek(max(size - settings.output_bytes, 0))
        return {"status": status, "output": output.read(settings.output_bytes).decode(errors="replace")}


def main() -> None:
    """Serve until killed."""
    role, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    server = Front(settings) if role == "front" else Worker(settings)
    server.serve_forever()


if __name__ == "__main__":
    main()
