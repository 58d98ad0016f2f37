"""LLM servers and agents built like real ones: with keys, front ends, workers, streams, model names.

    python3 served.py server KIND PORT
    python3 served.py agent KIND ENGINE_PORT PORT

Both run in a copy's folder, which also contains its weights, `own_engine.py` and `agent/agent.py`.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import own_engine  # it is in the same folder

sys.path.insert(0, "agent")
import agent  # part of a copy

CORE = "core.sock"
MODEL = "house/model-7b"
KEY_FILE = "key.txt"
WORKERS = 4
CROWD = 75
SERVICES = 24
FIRST_FREE = 26500


class Handler(BaseHTTPRequestHandler):
    """A chat server with the behaviour of its kind."""

    kind = ""
    answer: Any = None
    turn: Any = bytearray(1)

    def do_GET(self) -> None:
        """List the models."""
        if not self.is_allowed():
            self.reply(401, {"error": "no key"})
        elif self.path == self.base() + "/models":
            self.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        elif self.kind == "one" and self.path == "/health":
            self.reply(200, {"status": "ok", "engine": "here"})
        else:
            self.reply(404, {"error": "no such path"})

    def do_POST(self) -> None:
        """Complete a chat, or do a task if server and agent are one process."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_allowed():
            self.reply(401, {"error": "no key"})
        elif self.kind == "one" and self.path == "/task":
            self.reply(200, agent.do_task("", asked["task"]))
        elif self.path != self.base() + "/chat/completions":
            self.reply(404, {"error": "no such path"})
        elif self.kind == "model" and asked.get("model") != MODEL:
            self.reply(404, {"error": {"message": f"The model {asked.get('model')} does not exist."}})
        else:
            self.complete(asked["messages"])

    def complete(self, messages: list[Any]) -> None:
        """Answer a chat."""
        try:
            text = self.answer(messages)
        except (OSError, KeyError, ValueError) as error:
            self.reply(503, {"error": str(error)})
            return
        self.turn[0] = (self.turn[0] + 1) % WORKERS
        if self.kind == "stream":
            self.stream(text)
        else:
            message = {"role": "assistant", "content": text}
            self.reply(200, {"object": "chat.completion", "choices": [{"index": 0, "message": message}]})

    def base(self) -> str:
        """Path of the API."""
        return "/api/v1" if self.kind == "path" else "/v1"

    def is_allowed(self) -> bool:
        """Return whether the client has the key, if one is required."""
        if self.kind == "key":
            return self.headers.get("Authorization") == f"Bearer {os.environ['SERVER_API_KEY']}"
        if self.kind == "key_file":
            return self.headers.get("X-Pass") == Path(KEY_FILE).read_text()
        return True

    def stream(self, text: str) -> None:
        """Send an answer as a stream of chunks, even if none was requested."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(text), 7):
            event = {"choices": [{"index": 0, "delta": {"content": text[at : at + 7]}}]}
            self.chunk(f"data: {json.dumps(event)}\n\n")
        self.chunk("data: [DONE]\n\n")
        self.chunk("")

    def chunk(self, text: str) -> None:
        """Send one chunk."""
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """Send JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """A server whose address other processes can bind too."""

    daemon_threads = True
    shared = False

    def server_bind(self) -> None:
        """Bind."""
        if self.shared:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


def local(messages: list[Any]) -> str:
    """Answer on the weights of this folder."""
    return str(own_engine.complete(own_engine.folder("weights")[0], messages))


def by_core(messages: list[Any]) -> str:
    """Forward to the core in its own protocol: one line there, one line back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(CORE)
        connection.sendall(json.dumps(messages).encode() + b"\n")
        with connection.makefile("r") as lines:
            return str(json.loads(lines.readline()))


def core() -> None:
    """Serve the front."""
    if os.path.exists(CORE):
        os.unlink(CORE)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(CORE)
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("r") as lines:
                try:
                    connection.sendall(json.dumps(local(json.loads(lines.readline()))).encode() + b"\n")
                except (OSError, KeyError, ValueError):
                    continue


def serve(kind: str, port: int) -> None:
    """Serve chats."""
    Handler.kind, Handler.answer = kind, staticmethod(by_core if kind == "front" else local)
    if kind == "front" and os.fork() == 0:
        return core()
    if kind == "share":
        Server.shared = True
        for _ in range(WORKERS - 1):
            if os.fork() == 0:
                break
    if kind == "crowd":
        listen_in_processes(CROWD)
    if kind == "services":
        server_sockets = [socket.create_server(("127.0.0.1", FIRST_FREE + number)) for number in range(SERVICES)]
        refuse_at(server_sockets)
    if kind == "turns":
        serve_by_turns(port)
    server = Server(("127.0.0.1", port), Handler)
    if kind == "fork":
        for _ in range(WORKERS - 1):
            if os.fork() == 0:
                break
    if kind == "one":
        agent.think = lambda engine, messages: local(messages)
    server.serve_forever()
    return None


def serve_by_turns(port: int) -> None:
    """Serve from several processes on one listener, which answer one chat each in turn."""
    Handler.turn = mmap.mmap(-1, 1)  # shared with the forked processes
    server = HTTPServer(("127.0.0.1", port), Handler)
    server.timeout = 0.02
    number = next((one for one in range(1, WORKERS) if os.fork() == 0), 0)
    while True:
        if Handler.turn[0] == number:
            server.handle_request()
        else:
            time.sleep(0.005)


def refuse_at(listeners: list[socket.socket]) -> None:
    """Refuse every connection in the background."""

    def refuse() -> None:
        while True:
            for listener in select.select(listeners, [], [])[0]:
                listener.accept()[0].close()

    threading.Thread(target=refuse, daemon=True).start()


def listen_in_processes(number: int) -> None:
    """Start processes that listen, refuse at once, and do nothing else."""
    for one in range(number):
        if os.fork() == 0:
            with socket.create_server(("127.0.0.1", FIRST_FREE + one)) as listener:
                while True:
                    listener.accept()[0].close()


def act(kind: str, engine_port: int, port: int) -> None:
    """Run the agent of such a server."""
    base = f"http://127.0.0.1:{engine_port}" + ("/api/v1" if kind == "path" else "/v1")
    headers = {"Content-Type": "application/json"}
    if kind == "key":
        headers["Authorization"] = f"Bearer {os.environ['SERVER_API_KEY']}"
    if kind == "key_file":
        headers["X-Pass"] = Path(KEY_FILE).read_text()

    def think(engine: str, messages: list[Any]) -> str:
        body = json.dumps({"model": MODEL, "messages": messages, "stream": kind == "stream"}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(base + "/chat/completions", body, headers), timeout=60
        ) as answer:
            if kind != "stream":
                return str(json.load(answer)["choices"][0]["message"]["content"])
            events = [line[6:] for line in answer.read().decode().splitlines() if line.startswith("data: {")]
            return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events)

    agent.think = think
    agent.Server(("127.0.0.1", port), base).serve_forever()


if __name__ == "__main__":
    role, which, *ports = sys.argv[1:]
    if role == "server":
        serve(which, int(ports[0]))
    else:
        act(which, *map(int, ports))
