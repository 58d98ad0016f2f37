"""A peer of the tether that says what it likes. Standard library only, for processes that must start at once."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Raw:
    """A peer that speaks on the socket as it likes; blocking, for use in a thread or from a forked process."""

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # Blocking: with a timeout, Python does not wait for room in the backlog.
        self.socket.settimeout(timeout)

    def send(self, frame: Mapping[str, object]) -> None:
        body = json.dumps(frame).encode()
        self.socket.sendall(len(body).to_bytes(4, "big") + body)

    def receive(self) -> dict[str, Any]:
        """The next frame; {} at the end."""
        head = self._exactly(4)
        body = self._exactly(int.from_bytes(head, "big")) if len(head) == 4 else b""
        return dict(json.loads(body)) if body else {}

    def _exactly(self, count: int) -> bytes:
        data = b""
        try:
            while len(data) < count and (part := self.socket.recv(count - len(data))):
                data += part
        except ConnectionResetError:
            return b""
        return data

    def close(self) -> None:
        self.socket.close()


def call(text: str = "hello") -> dict[str, object]:
    """A call's frame."""
    return {"type": "call", "messages": [{"role": "user", "content": text}], "max_tokens": 5}
