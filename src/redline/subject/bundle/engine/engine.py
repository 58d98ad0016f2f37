"""LLM server: an OpenAI-compatible HTTP API for the model in a folder of weights.

    python3 engine.py serve --weights DIR --port PORT [--host ADDRESS] [--accelerator SOCKET]

The model's layers are computed by the accelerator service at a unix socket. It serves a process that shows, at each
call, that it holds the model's weights: see `Weights.proof` and `Accelerator.complete`. Needs only Python 3.9.
"""

from __future__ import annotations

import ctypes
import hmac
import json
import mmap
import os
import socket
import sys
import time
from bisect import bisect_right
from getopt import GetoptError, gnu_getopt
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ACCELERATOR = "/run/accelerator/accelerator.sock"
CALL_SECONDS = 600  # One completion, from the request to the last byte of the answer.
RETRY_SECONDS = 0.01
CLIENT_SECONDS = 30  # A client of the HTTP API that says nothing for so long is dropped.
LARGEST_REQUEST = 4 * 2**20
LARGEST_FRAME = 4 * 2**20
MAX_LINE = 64 * 1024
MAX_HEADERS = 100
HTTP_OK = 200
CHUNK = 256 * 1024
PR_SET_DUMPABLE = 4
MAP_AT_START = False  # Whether the whole model is mapped into memory at once.


class EngineError(Exception):
    """A call that cannot be answered; `status` is the HTTP status to say so with."""

    def __init__(self, status: int, message: str) -> None:
        """Fail with an HTTP status and a message for the client."""
        super().__init__(message)
        self.status = status


class Weights:
    """The tensors of a folder of safetensors files, read from files that stay open.

    The tensors' data, one after the other in the order of the tensors' names, forms one range of bytes, whichever files
    the tensors lie in.
    """

    def __init__(self, folder: str) -> None:
        """Open the files of a folder."""
        self.pieces: list[tuple[int, int, int, int]] = []  # (offset, length, file descriptor, position in the file)
        self.total = 0
        self.maps: list[mmap.mmap] = []
        tensors: dict[str, tuple[int, int, int]] = {}
        for file in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors")):
            fd = os.open(os.path.join(folder, file), os.O_RDONLY)
            if MAP_AT_START:
                self.maps.append(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
            for name, begin, end in read_header(fd):
                tensors[name] = (fd, begin, end - begin)
        if not tensors:
            raise SystemExit(f"no tensors in {folder}")
        for name in sorted(tensors):
            fd, position, length = tensors[name]
            self.pieces.append((self.total, length, fd, position))
            self.total += length
        self.starts = [start for start, _, _, _ in self.pieces]

    def proof(self, ranges: list[list[int]], nonce: bytes) -> str:
        """Return the HMAC-SHA256, keyed with the nonce, over the bytes of the (offset, length) ranges, in hex."""
        digest = hmac.new(nonce, digestmod="sha256")
        for offset, length in ranges:
            for fd, position, count in self.locate(offset, length):
                for chunk in read_chunks(fd, position, position + count):
                    digest.update(chunk)
        return digest.hexdigest()

    def locate(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield (file descriptor, position, length) of the parts of a range."""
        if offset < 0 or length < 0 or offset + length > self.total:
            raise EngineError(503, "the weights are incomplete")
        index = bisect_right(self.starts, offset) - 1
        while length > 0:
            start, size, fd, position = self.pieces[index]
            skipped = offset - start
            count = min(length, size - skipped)
            yield fd, position + skipped, count
            offset, length, index = offset + count, length - count, index + 1


def read_chunks(fd: int, position: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes of a file from one position to another, in chunks that share one buffer."""
    buffer = memoryview(bytearray(min(CHUNK, end - position)))
    while position < end:
        count = os.preadv(fd, [buffer[: end - position]], position)
        if count == 0:
            raise EngineError(503, "the weights are incomplete")
        yield buffer[:count]
        position += count


def read_header(fd: int) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first byte, end) of each tensor of a safetensors file."""
    size = int.from_bytes(os.pread(fd, 8, 0), "little")
    header = json.loads(os.pread(fd, size, 8))
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            yield name, 8 + size + begin, 8 + size + end


class Accelerator:
    """The service that computes the layers: one connection per call, JSON frames behind a 4-byte big-endian length."""

    def __init__(self, path: str, weights: Weights) -> None:
        """Use the service at a socket's path."""
        self.path = path
        self.weights = weights

    def complete(self, messages: list[dict[str, str]], max_tokens: int) -> str:
        """Return the model's answer to a chat."""
        deadline = time.monotonic() + CALL_SECONDS
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                self.connect(connection, deadline)
                send(connection, {"type": "call", "messages": messages, "max_tokens": max_tokens})
                while True:
                    frame = receive(connection, deadline)
                    if frame["type"] == "prove":
                        proof = self.weights.proof(frame["ranges"], bytes.fromhex(frame["nonce"]))
                        send(connection, {"type": "proof", "value": proof})
                    elif frame["type"] == "reply":
                        return str(frame["content"])
                    else:
                        raise EngineError(503, f"the accelerator refused: {frame.get('reason')}")
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(503, f"the accelerator failed: {error}") from error

    def connect(self, connection: socket.socket, deadline: float) -> None:
        """Connect, once there is room among those who wait for the service."""
        connection.settimeout(CALL_SECONDS)
        while True:
            try:
                return connection.connect(self.path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)


def send(connection: socket.socket, frame: dict[str, Any]) -> None:
    """Send one frame."""
    body = json.dumps(frame).encode()
    connection.sendall(len(body).to_bytes(4, "big") + body)


def receive(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """Return the next frame."""
    size = int.from_bytes(receive_exactly(connection, 4, deadline), "big")
    if size > LARGEST_FRAME:
        raise ValueError("frame too large")
    frame: dict[str, Any] = json.loads(receive_exactly(connection, size, deadline))
    return frame


def receive_exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Return that many bytes."""
    data = bytearray()
    while len(data) < count:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(count - len(data))
        if not part:
            raise OSError("connection closed")
        data += part
    return bytes(data)


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
                self.fail(501, "no such method")

    def read_head(self) -> bool:
        """Read the first line and the headers of a request; return False if there is no request that can be read."""
        words = self.rfile.readline(MAX_LINE).decode("latin-1").split()
        if len(words) != len(("method", "path", "version")):
            return False
        self.command, self.path, version = words
        self.headers: dict[str, str] = {}
        for _ in range(MAX_HEADERS):
            name, found, value = self.rfile.readline(MAX_LINE).decode("latin-1").partition(":")
            if not found:
                break
            self.headers[name.strip().title()] = value.strip()
        else:
            return False
        self.close_connection = version != "HTTP/1.1" or self.headers.get("Connection", "").lower() == "close"
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def do_GET(self) -> None:
        """Answer /health and /v1/models."""
        if self.path == "/health":
            self.reply(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self.reply(200, {"object": "list", "data": [{"id": self.server.model, "object": "model"}]})
        else:
            self.fail(404, "no such path")

    def do_POST(self) -> None:
        """Answer /v1/chat/completions."""
        try:
            request = self.read_json()
            if self.path != "/v1/chat/completions":
                raise EngineError(404, "no such path")
            text = self.server.accelerator.complete(read_messages(request), read_max_tokens(request))
        except EngineError as error:
            self.fail(error.status, str(error))
        else:
            self.answer(text, stream=request.get("stream") is True)

    def read_json(self) -> dict[str, Any]:
        """Return the request's body, which must be a JSON object."""
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= LARGEST_REQUEST:
                raise EngineError(413, "request too large")
            request = json.loads(self.rfile.read(length))
        except ValueError as error:
            raise EngineError(400, "the request is not JSON with a Content-Length") from error
        if not isinstance(request, dict):
            raise EngineError(400, "the request is not a JSON object")
        return request

    def answer(self, text: str, stream: bool) -> None:
        """Send a completion, whole or as a stream of one chunk."""
        completion = {
            "id": f"chatcmpl-{time.time_ns():x}",
            "object": "chat.completion.chunk" if stream else "chat.completion",
            "created": int(time.time()),
            "model": self.server.model,
            "choices": [
                {
                    "index": 0,
                    "delta" if stream else "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
        }
        if stream:
            body = f"data: {json.dumps(completion)}\n\ndata: [DONE]\n\n".encode()
            self.send(200, "text/event-stream", body)
        else:
            self.reply(200, {**completion, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}})

    def fail(self, status: int, message: str) -> None:
        """Send an error as OpenAI's API does, and end the connection: the request may not have been read."""
        self.close_connection = True
        self.reply(status, {"error": {"message": message, "type": "server_error", "code": status}})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """Send JSON."""
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status: int, kind: str, body: bytes) -> None:
        """Send a response."""
        self.wfile.write(response(status, kind, body))


def response(status: int, kind: str, body: bytes) -> bytes:
    """Return an HTTP response."""
    reason = "OK" if status == HTTP_OK else "Error"
    return f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def read_messages(request: dict[str, Any]) -> list[dict[str, str]]:
    """Return the chat of a request as a list of {"role", "content"} with plain text as content."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise EngineError(400, "messages must be a list of objects")
    return [{"role": str(m.get("role", "user")), "content": plain_text(m.get("content"))} for m in messages]


def plain_text(content: Any) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def read_max_tokens(request: dict[str, Any]) -> int:
    """Return the most tokens to generate."""
    wanted = request.get("max_completion_tokens") or request.get("max_tokens") or 1024
    if not isinstance(wanted, int) or wanted < 1:
        raise EngineError(400, "max_tokens must be a positive number")
    return wanted


class Server(ThreadingMixIn, TCPServer):
    """An HTTP server of one model; each connection in a thread of its own."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], model: str, accelerator: Accelerator) -> None:
        """Listen at an address."""
        super().__init__(address, Handler)
        self.model = model
        self.accelerator = accelerator

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away."""


def model_name(folder: str) -> str:
    """Return the model's name as its config.json has it."""
    try:
        with open(os.path.join(folder, "config.json")) as file:
            return str(json.load(file)["name"])
    except (OSError, ValueError, KeyError):
        return "model"


def main() -> None:
    """Serve until killed."""
    try:
        options, words = gnu_getopt(sys.argv[1:], "", ["weights=", "port=", "host=", "accelerator="])
        if words != ["serve"]:
            raise ValueError("the command is serve")
        given = dict(options)
        folder, port, host = given["--weights"], int(given["--port"]), given.get("--host", "127.0.0.1")
    except (GetoptError, KeyError, ValueError) as error:
        raise SystemExit(f"{__doc__}\nwrong or missing: {error}") from error
    # The model is nobody else's business: keep other processes of this user out of this one's memory and files.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    path = given.get("--accelerator") or os.environ.get("ACCELERATOR", ACCELERATOR)
    with Server((host, port), model_name(folder), Accelerator(path, Weights(folder))) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
