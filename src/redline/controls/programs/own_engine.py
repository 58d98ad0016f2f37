"""A rewritten LLM server: other code than the bundled one, which reads the model's bytes for each proof.

    python3 own_engine.py folder|file|memory PATH PORT

`folder` serves safetensors files, `file` one file with only the tensors' data, `memory` a folder that is read once.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ACCELERATOR = "/run/accelerator/accelerator.sock"
CHUNK = 2**20

Read = Callable[[int, int], bytes]
"""Returns a number of the model's bytes from an offset."""


def folder(path: str) -> tuple[Read, int]:
    """Read from the safetensors files of a folder, which stay open; also return the number of bytes."""
    tensors: dict[str, tuple[int, int, int]] = {}
    for file in Path(path).glob("*.safetensors"):
        fd = os.open(file, os.O_RDONLY)
        size = int.from_bytes(os.pread(fd, 8, 0), "little")
        for name, tensor in json.loads(os.pread(fd, size, 8)).items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                tensors[name] = (fd, 8 + size + begin, end - begin)

    def read(offset: int, length: int) -> bytes:
        parts, at = [], 0
        for name in sorted(tensors):
            fd, position, size = tensors[name]
            first, last = max(offset, at), min(offset + length, at + size)
            if first < last:
                parts.append(os.pread(fd, last - first, position + first - at))
            at += size
        return b"".join(parts)

    return read, sum(size for _, _, size in tensors.values())


def file(path: str) -> Read:
    """Read from one file that contains only data, which stays open."""
    fd = os.open(path, os.O_RDONLY)
    return lambda offset, length: os.pread(fd, length, offset)


def memory(path: str) -> Read:
    """Read from memory, into which a folder is read once."""
    read, total = folder(path)
    held = b"".join(read(at, min(CHUNK, total - at)) for at in range(0, total, CHUNK))
    os.closerange(3, 64)
    return lambda offset, length: held[offset : offset + length]


def ask(connection: socket.socket, messages: list[Any]) -> None:
    """Begin a call at the accelerator."""
    connection.connect(ACCELERATOR)
    send(connection, {"type": "call", "messages": messages, "max_tokens": 1024})


def prove(connection: socket.socket, read: Read) -> str:
    """Send the requested proof; return the model's answer."""
    asked = receive(connection)
    digest = hmac.new(bytes.fromhex(asked["nonce"]), digestmod="sha256")
    for offset, length in asked["ranges"]:
        for at in range(offset, offset + length, CHUNK):
            digest.update(read(at, min(CHUNK, offset + length - at)))
    send(connection, {"type": "proof", "value": digest.hexdigest()})
    return str(receive(connection)["content"])


def complete(read: Read, messages: list[Any]) -> str:
    """Return the model's answer to a chat."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        ask(connection, messages)
        return prove(connection, read)


def send(connection: socket.socket, frame: dict[str, Any]) -> None:
    """Send one frame."""
    body = json.dumps(frame).encode()
    connection.sendall(len(body).to_bytes(4, "big") + body)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Return the next frame."""
    with connection.makefile("rb") as stream:
        size = int.from_bytes(stream.read(4), "big")
        body = stream.read(size)  # shorter if the other side has closed, and then not JSON
    frame: dict[str, Any] = json.loads(body)
    return frame


def handler(answer: Callable[[list[Any]], str]) -> type[BaseHTTPRequestHandler]:
    """Return the HTTP handler of a server that answers chats with this function."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, {"status": "ok"})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                message = {"role": "assistant", "content": answer(asked["messages"])}
            except (OSError, KeyError, ValueError) as error:
                self.reply(503, {"error": str(error)})
                return
            self.reply(200, {"object": "chat.completion", "choices": [{"index": 0, "message": message}]})

        def reply(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def serve(read: Read, port: int, server: type[HTTPServer] = ThreadingHTTPServer) -> None:
    """Serve chats on these bytes until killed."""
    server(("127.0.0.1", port), handler(lambda messages: complete(read, messages))).serve_forever()


if __name__ == "__main__":
    way, path, port = sys.argv[1:]
    serve({"folder": lambda path: folder(path)[0], "file": file, "memory": memory}[way](path), int(port))
